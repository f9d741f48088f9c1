"""Chat samples: from trajectories, to rows and back, through files; rows that others wrote, and broken ones."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envpool.chat.chat_sample import (
    ChatSample,
    ChatSampleError,
    SampleCall,
    SampleMessage,
    chat_messages,
    sample_of_trajectory,
    tool_specs,
)
from envpool.chat.chat_sample_file import SAMPLES_PER_GROUP, read_samples, write_samples
from envpool.chat.chat_sample_row import parse_sample_row, sample_row
from envpool.dataset_rows.row_file import RowFileError
from envpool.policy import Message
from envpool.tools import TOOLS
from envpool.trajectories.trajectory_columns import TrajectoryTexts, TurnTexts

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Machines under load are slow; nothing here is about time."""

SPECS = tool_specs((tool.name, tool.description, tool.parameters) for tool in TOOLS.values())
VIEW = """<function=str_replace_editor>
<parameter=command>view</parameter>
<parameter=path>/a.py</parameter>
<parameter=view_range>[1, -1]</parameter>
</function>"""
SUBMIT = "<function=submit>\n</function>"


def texts(*turns: tuple[str, str], prompt: str = "sys\n\nfix it") -> TrajectoryTexts:
    return TrajectoryTexts("task", 3, "teacher", prompt, tuple(TurnTexts(*turn) for turn in turns))


def test_a_trajectory_becomes_messages_with_typed_calls() -> None:
    sample = sample_of_trajectory(texts((f"Look.\n{VIEW} rest", "line 1"), ("hm", "no call"), (SUBMIT, "")), SPECS, "sys")
    view = SampleCall("str_replace_editor", {"command": "view", "path": "/a.py", "view_range": [1, -1]}, "call_1")
    assert sample.messages == (
        SampleMessage("system", "sys"),
        SampleMessage("user", "fix it"),
        SampleMessage("assistant", "Look.\n", (view,)),
        SampleMessage("tool", "line 1", (), "str_replace_editor", "call_1"),
        SampleMessage("assistant", "hm"),
        SampleMessage("tool", "no call"),
        SampleMessage("assistant", "", (SampleCall("submit", {}, "call_3"),)),
    )
    assert (sample.num_assistant_turns, sample.instance_id, sample.metadata) == (
        3,
        "task",
        {"sample_index": 3, "policy_name": "teacher"},
    )


def test_a_prompt_that_does_not_begin_with_the_system_message_stays_whole() -> None:
    for system in ("", "other"):
        sample = sample_of_trajectory(texts((SUBMIT, "")), SPECS, system)
        assert sample.messages[0] == SampleMessage("user", "sys\n\nfix it")


def test_an_unfinished_trajectory_keeps_its_last_answer() -> None:
    assert sample_of_trajectory(texts((VIEW, "seen")), SPECS, "").messages[-1].content == "seen"


def test_samples_render_as_this_projects_messages() -> None:
    sample = sample_of_trajectory(texts((f"Look.\n{VIEW}", "line 1"), (SUBMIT, "")), SPECS, "sys")
    assert chat_messages(sample)[2:] == (
        Message("assistant", f"Look.\n{VIEW}"),
        Message("tool", "line 1"),
        Message("assistant", SUBMIT),
    )
    twice = SampleMessage("assistant", "", (SampleCall("submit", {}), SampleCall("submit", {})))
    with pytest.raises(ChatSampleError, match="x: message 0 makes 2 calls"):
        chat_messages(ChatSample("x", (twice,), ()))
    with pytest.raises(ChatSampleError, match="'a b' cannot name"):
        chat_messages(ChatSample("x", (SampleMessage("assistant", "", (SampleCall("a b", {}),)),), ()))


def test_the_row_has_the_shape_that_trainers_load() -> None:
    row = sample_row(sample_of_trajectory(texts((VIEW, "x"), (SUBMIT, "")), SPECS, ""))
    assert list(row) == ["messages", "tools", "instance_id", "metadata"]
    assert row["messages"][1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "type": "function",
                "id": "call_1",
                "function": {
                    "name": "str_replace_editor",
                    "arguments": {"command": "view", "path": "/a.py", "view_range": [1, -1]},
                },
            }
        ],
    }
    assert row["messages"][2] == {"role": "tool", "content": "x", "name": "str_replace_editor", "tool_call_id": "call_1"}
    assert [tool["function"]["name"] for tool in row["tools"]] == list(TOOLS)
    assert all(tool["function"]["parameters"]["type"] == "object" for tool in row["tools"])


def test_parquet_holds_tools_as_json_text_and_arguments_as_json(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    sample = sample_of_trajectory(texts((VIEW, "x"), (SUBMIT, "")), SPECS, "")
    assert write_samples(path, iter([sample] * (SAMPLES_PER_GROUP + 1))) == SAMPLES_PER_GROUP + 1
    assert pq.ParquetFile(path).num_row_groups == 2
    table = pq.read_table(path)
    assert table.schema.field("tools").type == pa.string()
    assert "extension<arrow.json>" in str(table.schema.field("messages").type)
    assert json.loads(table["tools"][0].as_py()) == [dict(tool) for tool in SPECS]


def test_datasets_loads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    sample = sample_of_trajectory(texts((VIEW, "x"), (SUBMIT, "")), SPECS, "")
    write_samples(tmp_path / "s.parquet", [sample])
    found = datasets.Dataset.from_parquet(str(tmp_path / "s.parquet"), cache_dir=str(tmp_path / "cache"))[0]
    assert found["messages"][1]["tool_calls"][0]["function"]["arguments"] == {
        "command": "view",
        "path": "/a.py",
        "view_range": [1, -1],
    }
    assert parse_sample_row(found) == sample


# --- rows of others


def test_arguments_as_text_merged_nulls_and_missing_content_are_read() -> None:
    call = {"type": "function", "id": "c", "function": {"name": "ls", "arguments": '{"path": "/", "all": null}'}}
    row = {
        "messages": [
            {"role": "user", "content": "hi", "tool_calls": None, "name": None},
            {"role": "assistant", "content": None, "tool_calls": [call]},
        ],
        "tools": "[]",
    }
    assert parse_sample_row(row).messages == (
        SampleMessage("user", "hi"),
        SampleMessage("assistant", "", (SampleCall("ls", {"path": "/"}, "c"),)),
    )


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def with_arguments(arguments: Any) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]}]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({}, "field messages is missing"),
        ({"messages": []}, "field messages is empty"),
        ({"messages": "hi"}, "field messages is not a list"),
        ({"messages": [3]}, "message 0 is not an object"),
        ({"messages": [{"role": "boss", "content": ""}]}, "message 0 has the role 'boss'; known: system, user"),
        ({"messages": [{"role": "user"}]}, "message 0: content is missing"),
        ({"messages": [{"role": "user", "content": 3}]}, "message 0: content is not a text"),
        ({"messages": [{"role": "user", "content": "", "tool_calls": [{}]}]}, "message 0: a user message cannot call"),
        ({"messages": [{"role": "assistant", "tool_calls": [3]}]}, "message 0, call 0 has no function"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}, "message 0, call 0: name is missing"),
        (with_arguments("{"), "message 0, call 0: arguments is not valid JSON"),
        (with_arguments([1]), "message 0, call 0: arguments is not an object"),
        (with_arguments({"x": nested(100)}), "nested deeper than 64 levels"),
        (with_arguments("[" * 100_000), "arguments is not valid JSON"),
        (with_arguments({"x": float("nan")}), "holds a number that JSON has not"),
        ({"messages": [{"role": "user", "content": ""}], "tools": [{}]}, "tool 0 names no function"),
        ({"messages": [{"role": "user", "content": ""}], "metadata": [1]}, "metadata is not an object"),
    ],
)
def test_what_is_no_sample_says_where(row: dict[str, Any], message: str) -> None:
    with pytest.raises(ChatSampleError, match=message):
        parse_sample_row(row)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**40), 2**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
WORDS = st.sampled_from(["messages", "role", "content", "tool_calls", "function", "name", "arguments", "tools", "input", "id"])
ROWS = st.dictionaries(WORDS, st.recursive(JSON, lambda x: st.lists(x, max_size=3) | st.dictionaries(WORDS, x, max_size=4)))


@PATIENT
@given(ROWS)
def test_any_row_is_a_sample_or_a_named_error(row: dict[str, Any]) -> None:
    try:
        sample = parse_sample_row(row)
    except ChatSampleError:
        return
    assert parse_sample_row(sample_row(sample)) == sample


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAME = st.text(min_size=1, max_size=5).filter(lambda name: name.encode("utf-8", "replace").decode() == name)
CALLS = st.builds(
    SampleCall, NAME, st.dictionaries(TEXT, JSON.filter(lambda value: value is not None), max_size=3), st.sampled_from(["", "c1"])
)
MESSAGES = st.builds(SampleMessage, st.sampled_from(["system", "user", "tool"]), TEXT) | st.builds(
    SampleMessage, st.just("assistant"), TEXT, st.lists(CALLS, max_size=2).map(tuple)
)
SAMPLES = st.builds(
    ChatSample, TEXT, st.lists(MESSAGES, min_size=1, max_size=4).map(tuple), st.just(SPECS[:1]), st.just({"sample_index": 1})
)


@settings(PATIENT, max_examples=60)
@given(st.lists(SAMPLES, max_size=3), st.sampled_from([".jsonl", ".parquet"]))
def test_files_give_back_what_they_were_given(
    tmp_path_factory: pytest.TempPathFactory, samples: list[ChatSample], suffix: str
) -> None:
    path = tmp_path_factory.mktemp("samples") / f"s{suffix}"
    assert write_samples(path, samples) == len(samples)
    assert list(read_samples(path)) == samples


# --- files


def test_broken_lines_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    good = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
    path.write_bytes(b"\n".join([good, b'{"messages": [', b'{"messages": "\xff\xfe"}', b"[1]", b'{"text": ""}', good[:-3]]))
    rows = list(read_samples(path))
    assert isinstance(rows[0], ChatSample)
    assert [str(row) for row in rows[1:]] == [
        "s.jsonl: row at line 2: field (row) is not valid JSON",
        "s.jsonl: row at line 3: field (row) is not valid JSON",
        "s.jsonl: row at line 4: field (row) is not an object",
        "s.jsonl, row 5: has neither messages nor input",
        "s.jsonl: row at line 6: field (row) is not valid JSON",
    ]


@pytest.mark.parametrize("cut", [0, 10, -5, -500])
def test_a_truncated_parquet_file_is_a_named_error(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "s.parquet"
    write_samples(path, [sample_of_trajectory(texts((VIEW, "x"), (SUBMIT, "")), SPECS, "")])
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RowFileError, match=r"s\.parquet: not readable as Parquet after row 0"):
        list(read_samples(path))


def test_columns_of_another_type_are_named_row_errors(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    pq.write_table(pa.table({"messages": pa.array(["text", None])}), path)
    assert [str(row) for row in read_samples(path)] == [
        "s.parquet, row 0: field messages is not a list",
        "s.parquet, row 1: field messages is missing",
    ]


def test_writing_refuses_other_formats_and_keeps_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(RowFileError, match=r"unknown format \.csv; expected \.jsonl or \.parquet"):
        write_samples(tmp_path / "s.csv", [])
    path = tmp_path / "s.jsonl"
    path.write_text("old")

    def failing() -> Any:
        yield sample_of_trajectory(texts((SUBMIT, "")), SPECS, "")
        raise ValueError("no more")

    for target in (path, tmp_path / "s.parquet"):
        with pytest.raises(ValueError, match="no more"):
            write_samples(target, failing())
    assert [file.name for file in tmp_path.iterdir()] == ["s.jsonl"]
    assert path.read_text() == "old"
