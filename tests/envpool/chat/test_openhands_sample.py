"""SWE-Master's own SFT rows: spans and text against what is stored, tools out of prose, conversion; broken rows."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envpool.chat.chat_layout import IM_END
from envpool.chat.chat_sample import ChatSample, ChatSampleError, SampleCall, SampleMessage, chat_messages
from envpool.chat.chat_sample_file import read_samples, write_samples
from envpool.chat.chat_spans import chat_text, tokenize_chat
from envpool.chat.openhands_sample import as_chat_sample, complaints_about, documented_tools, parse_openhands_row
from envpool.policy import Message
from tests.envpool.agent.agent_doubles import CHAT

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Machines under load are slow; nothing here is about time."""

FILE = Path(__file__).parents[4] / "shared" / "data" / "swe_master" / "sft" / "multi_turn.jsonl"
needs_data = pytest.mark.skipif(not FILE.is_file(), reason="the released SFT rows (../shared/data/swe_master) are not here")

DOCS = """You have access to these functions:

---- BEGIN FUNCTION #1: look ----
**Description**: Looks at a file.
* Twice.

**Parameters**:
(1) path (string, required): Where, e.g. (1) `/a`.
(2) span (array, optional): Lines.
(3) depth (float, optional): Unknown type.
---- END FUNCTION #1 ----

---- BEGIN FUNCTION #2: submit ----
**Description**: Ends.
No parameters are required for this function.
---- END FUNCTION #2 ----
"""


def call(name: str, **arguments: str) -> str:
    lines = "".join(f"  <parameter={key}>{value}</parameter>\n" for key, value in arguments.items())
    return f"<function={name}>\n{lines}</function>"


def row(**changes: Any) -> dict[str, Any]:
    messages = [
        ("system", "Be good."),
        ("system", DOCS),
        ("user", "Fix it."),
        ("assistant", f"<think>hm</think>\n\n{call('look', path='/a', span='[1, 9]')}"),
        ("tool", "text"),
        ("assistant", call("submit")),
    ]
    prompt = (
        "<|im_start|>system\nBe good.<|im_end|>\n"
        f"<|im_start|>system\n{DOCS}<|im_end|>\n"
        "<|im_start|>user\nFix it.<|im_end|>\n"
        f"<|im_start|>assistant\n{messages[3][1]}<|im_end|>\n"
        "<|im_start|>user\n<tool_response>\ntext\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    stored = {
        "input": [{"role": role, "content": content} for role, content in messages],
        "prompt": prompt,
        "response": f"{call('submit')}<|im_end|>\n",
        "response_ranges": [[10, 20], [30, 40]],
        "step_count": 2,
    }
    return stored | changes


def test_a_row_agrees_with_what_is_stored_beside_it() -> None:
    sample = parse_openhands_row(row())
    assert complaints_about(sample) == ()
    assert sample.num_assistant_turns == 2
    assert sample.response_ranges == ((10, 20), (30, 40))


def test_differences_are_named() -> None:
    changed = row(response_ranges=[[1, 2]], prompt="<|im_start|>user\n", response="other")
    assert complaints_about(parse_openhands_row(changed)) == (
        "1 trained spans, but 2 assistant turns",
        "the stored prompt is not the messages' text",
        "the stored response is not the last message with <|im_end|>",
    )
    bare = {"input": row()["input"]}
    assert complaints_about(parse_openhands_row(bare)) == ()


def test_conversion_parses_calls_and_tools() -> None:
    sample = as_chat_sample(parse_openhands_row(row(instance_id="x")))
    look = SampleCall("look", {"path": "/a", "span": [1, 9]}, "call_1")
    assert sample.messages == (
        SampleMessage("system", "Be good."),
        SampleMessage("user", "Fix it."),
        SampleMessage("assistant", "<think>hm</think>\n\n", (look,)),
        SampleMessage("tool", "text", (), "look", "call_1"),
        SampleMessage("assistant", "", (SampleCall("submit", {}, "call_2"),)),
    )
    assert sample.metadata == {"step_count": 2}
    assert sample.tools == documented_tools(DOCS)


def test_tools_out_of_prose() -> None:
    look, submit = (spec["function"] for spec in documented_tools(DOCS))
    assert look == {
        "name": "look",
        "description": "Looks at a file.\n* Twice.",
        "parameters": {
            "type": "object",
            "properties": {
                "path": {"type": "string", "description": "Where, e.g. (1) `/a`."},
                "span": {"type": "array", "description": "Lines."},
                "depth": {"type": "string", "description": "Unknown type."},
            },
            "required": ["path"],
        },
    }
    assert submit == {
        "name": "submit",
        "description": "Ends.",
        "parameters": {"type": "object", "properties": {}, "required": []},
    }
    assert documented_tools("no functions here") == ()


def test_a_single_system_message_stays_though_it_documents_tools() -> None:
    messages = [{"role": "system", "content": DOCS}, {"role": "assistant", "content": call("submit")}]
    sample = as_chat_sample(parse_openhands_row({"input": messages}))
    assert sample.messages[0] == SampleMessage("system", DOCS)
    assert len(sample.tools) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"input": None}, "field input is no list"),
        ({"input": []}, "field input is no list"),
        ({"input": [{"role": "user"}]}, "message 0 of input has no known role or no text"),
        ({"input": [{"role": "assistant", "content": ["x"]}]}, "message 0 of input has no known role or no text"),
        ({"input": [{"role": "user", "content": "x"}]}, "input ends with a user message"),
        ({"response_ranges": [[1]]}, "response_ranges is no list"),
        ({"response_ranges": [[5, 1]]}, "response_ranges is no list"),
        ({"response_ranges": "x"}, "response_ranges is no list"),
        ({"prompt": 3}, "prompt or response is not a text"),
        ({"instance_id": [1]}, "instance_id is not a text"),
    ],
)
def test_broken_rows_say_what(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ChatSampleError, match=message):
        parse_openhands_row(row(**changes))


def test_a_file_of_rows_is_converted_and_bad_ones_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [row(), row(response_ranges=[[1, 2]]), row(input=3)]
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    good, *bad = read_samples(path)
    assert isinstance(good, ChatSample)
    assert [str(one) for one in bad] == [
        "rows.jsonl, row 2: 1 trained spans, but 2 assistant turns",
        "rows.jsonl, row 3: field input is no list of messages",
    ]


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["role", "content", "assistant", "input"]), inner, max_size=3)
    ),
    max_leaves=12,
)
TURNS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": st.text(max_size=60)})
)
FIELDS = {"input": TURNS | ANY, "prompt": ANY, "response": ANY, "response_ranges": ANY, "instance_id": ANY}


@PATIENT
@given(st.fixed_dictionaries({}, optional=FIELDS))
def test_any_row_is_a_sample_or_a_named_error(one: dict[str, Any]) -> None:
    try:
        sample = parse_openhands_row(one)
    except ChatSampleError:
        return
    complaints_about(sample)
    converted = as_chat_sample(sample)
    assert converted.num_assistant_turns == sample.num_assistant_turns


# --- one text and one id sequence


UTF8 = st.text(st.characters(codec="utf-8"), max_size=12)
MARKED = st.lists(
    st.builds(
        Message, st.sampled_from(["system", "user", "assistant", "tool"]), st.text(st.characters(codec="utf-8"), max_size=12)
    ),
    max_size=5,
)


@PATIENT
@given(MARKED)
def test_ids_and_text_agree_with_the_renderer(messages: list[Message]) -> None:
    text, char_spans = chat_text(messages)
    tokens = tokenize_chat(messages, CHAT)
    assert CHAT.decode(tokens.token_ids) == text
    assert len(tokens.spans) == len(char_spans) == sum(message.role == "assistant" for message in messages)
    for (start, end), (first, last) in zip(tokens.spans, char_spans, strict=True):
        assert CHAT.decode(tokens.token_ids[start:end]) + IM_END == text[first:last]
    assert tokens.loss_mask.sum() == sum(end - start for start, end in tokens.spans)


@needs_data
def test_the_released_rows_have_a_trained_span_per_turn_and_their_own_text() -> None:
    for line in FILE.read_bytes().splitlines():
        stored = json.loads(line)
        sample = parse_openhands_row(stored)
        assert complaints_about(sample) == ()
        tokens = tokenize_chat(sample.messages, CHAT)
        assert len(tokens.spans) == sample.num_assistant_turns == len(stored["response_ranges"])
        assert CHAT.decode(tokens.token_ids) == stored["prompt"] + stored["response"]
        start = tokens.spans[-1][0]
        assert CHAT.decode(tokens.token_ids[:start]) == stored["prompt"]


@needs_data
def test_the_released_rows_survive_conversion(tmp_path: Path) -> None:
    samples = [one for one in read_samples(FILE) if isinstance(one, ChatSample)]
    assert [one.num_assistant_turns for one in samples] == [29, 38, 38]
    for sample in samples:
        turns = [message for message in sample.messages if message.role == "assistant"]
        assert all(len(turn.calls) == 1 for turn in turns)
        assert turns[-1].calls[0].name == "submit"
        assert [spec["function"]["name"] for spec in sample.tools] == ["execute_bash", "str_replace_editor", "submit"]
        rendered = chat_messages(sample)
        assert [message.role for message in rendered] == [message.role for message in sample.messages]
    for suffix in (".jsonl", ".parquet"):
        write_samples(tmp_path / f"s{suffix}", samples)
        assert list(read_samples(tmp_path / f"s{suffix}")) == samples
