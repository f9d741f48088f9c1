"""Row files and their fields: what is broken is named, the rest goes on."""

import json
import pickle
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.dataset_rows.dataset_row import RowError, mapping, string_list, text
from envpool.dataset_rows.task_rows import RowFileError, import_tasks, read_rows
from envpool.parquet_file import read_parquet, write_parquet

DIFF = "diff --git a/{0} b/{0}\n--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-old\n+new\n"


def rebench_row(instance_id: str) -> dict[str, Any]:
    return {
        "instance_id": instance_id,
        "repo": "owner/name",
        "base_commit": "0" * 40,
        "problem_statement": "It breaks.",
        "patch": DIFF.format("name/code.py"),
        "test_patch": DIFF.format("tests/test_code.py"),
        "FAIL_TO_PASS": ["tests/test_code.py::test_a"],
        "PASS_TO_PASS": "[]",
        "docker_image": "registry.example/swerebench/sweb.eval.x86_64.owner_1776_name-1",
        "install_config": {"install": "pip install -e .", "test_cmd": "pytest -rA", "log_parser": "parse_log_pytest"},
        "license_name": "MIT",
    }


def write_json(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)) if path.suffix == ".jsonl" else json.dumps(rows))
    return path


def test_three_formats_give_the_same_rows(tmp_path: Path) -> None:
    rows = [rebench_row("a-1"), rebench_row("a-2")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    assert list(read_rows(write_json(tmp_path / "rows.json", rows))) == [(0, rows[0]), (1, rows[1])]
    assert list(read_rows(write_json(tmp_path / "rows.jsonl", rows))) == [(1, rows[0]), (2, rows[1])]
    assert list(read_rows(tmp_path / "rows.parquet")) == [(0, rows[0]), (1, rows[1])]


def test_broken_rows_are_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    no_patch, wrong_type, bad_list, no_id = (rebench_row(f"a-{index}") for index in range(4))
    del no_patch["patch"]
    wrong_type["repo"] = 7
    bad_list["FAIL_TO_PASS"] = "[not json"
    del no_id["instance_id"]
    rows = [no_patch, rebench_row("good-1"), wrong_type, 5, bad_list, no_id, rebench_row("good-2"), rebench_row("good-1")]
    result = import_tasks(write_json(tmp_path / "rows.json", rows), "swe_rebench")
    assert [task.instance_id for task in result.tasks] == ["good-1", "good-2"]
    assert {task.source for task in result.tasks} == {"swe_rebench"}
    assert [str(error) for error in result.errors] == [
        "row a-0: field patch is missing",
        "row a-1: field repo is int, not text",
        "row number 3: field (row) is not an object",
        "row a-2: field FAIL_TO_PASS is not JSON text",
        "row at position 5: field instance_id is missing",
        "row good-1: field instance_id was used by an earlier row; the first counts",
    ]


def test_a_broken_line_of_jsonl_is_one_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(rebench_row("a-1")) + '\n\n{"instance_id": "cut\n' + json.dumps(rebench_row("a-2")) + "\n")
    result = import_tasks(path, "swe_rebench")
    assert [task.instance_id for task in result.tasks] == ["a-1", "a-2"]
    assert [str(error) for error in result.errors] == ["row at line 3: field (row) is not valid JSON"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.json", '[{"instance_id": "a"}, {"inst', "not valid JSON at line 1: .*truncated"),
        ("object.json", "{}", "holds one dict, not a list of rows"),
        ("binary.json", "\xff\xfe", "not readable as JSON|not valid JSON"),
        ("cut.parquet", "PAR1 and no more", "not a readable Parquet file"),
        ("rows.csv", "a,b", r"unknown format \.csv; expected \.json, \.jsonl or \.parquet"),
        ("rows", "", r"unknown format \(no suffix\)"),
    ],
)
def test_an_unreadable_file_is_one_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(RowFileError, match=message) as caught:
        import_tasks(tmp_path / name, "swe_rebench")
    assert "\n" not in str(caught.value)


def test_a_parser_nobody_has_is_an_error_where_that_is_checked(tmp_path: Path) -> None:
    row = rebench_row("a-1")
    row["install_config"] = row["install_config"] | {"log_parser": "parse_log_of_nobody"}
    path = write_json(tmp_path / "rows.json", [row, rebench_row("a-2")])
    result = import_tasks(path, "swe_rebench", knows_parser=lambda name: name == "parse_log_pytest")
    assert [task.instance_id for task in result.tasks] == ["a-2"]
    assert [str(error) for error in result.errors] == [
        "row a-1: field log_parser names a parser that is neither ours nor swebench's: 'parse_log_of_nobody'"
    ]
    assert len(import_tasks(path, "swe_rebench").tasks) == 2


def test_a_row_of_verl_is_taken_out_of_its_wrapping(tmp_path: Path) -> None:
    wrapped = {"prompt": [], "reward_model": {"style": "rule"}, "extra_info": rebench_row("a-1")}
    tasks = import_tasks(write_json(tmp_path / "rows.json", [wrapped]), "swe_rebench").tasks
    assert [task.instance_id for task in tasks] == ["a-1"]


def test_parquet_is_streamed_by_row_group(tmp_path: Path) -> None:
    """Text that is not UTF-8 spoils its own row; damage in the middle is an error after the rows before it."""
    path = tmp_path / "rows.parquet"
    texts = pa.array([b"fine", b"caf\xe9", b"fine"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"instance_id": ["a", "b", "c"], "text": texts}), path)
    assert [str(row) if isinstance(row, RowError) else row["instance_id"] for _, row in read_rows(path)] == [
        "a",
        "row at position 1: field (row) holds text that is not UTF-8, or a value Python cannot hold",
        "c",
    ]
    schema = pa.schema([("number", pa.int64()), ("filler", pa.binary())])
    rows = ({"number": index, "filler": random.Random(index).randbytes(2000)} for index in range(1000))
    write_parquet(path, rows, schema)
    assert pq.ParquetFile(path).num_row_groups == 4
    data = bytearray(path.read_bytes())
    middle = len(data) * 5 // 8
    data[middle : middle + 4000] = b"\0" * 4000
    path.write_bytes(data)
    seen: list[int] = []
    with pytest.raises(RowFileError, match="not a readable Parquet file"):
        seen.extend(row["number"] for _, row in read_rows(path) if isinstance(row, dict))
    assert seen == list(range(len(seen)))
    assert len(seen) in (256, 512)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, int]]:
        yield {"number": 1}
        raise RuntimeError("no more")

    schema = pa.schema([("number", pa.int64())])
    write_parquet(tmp_path / "rows.parquet", [{"number": 7}], schema)
    with pytest.raises(RuntimeError, match="no more"):
        write_parquet(tmp_path / "rows.parquet", rows(), schema)
    assert read_parquet(tmp_path / "rows.parquet")[0] == [{"number": 7}]
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_missing_file_and_unknown_source(tmp_path: Path) -> None:
    with pytest.raises(RowFileError, match="no such file"):
        import_tasks(tmp_path / "rows.json", "swe_rebench")
    with pytest.raises(
        ValueError, match="unknown task source 'swe'; known: harbor, r2e_gym, swe_bench, swe_gym, swe_rebench, swe_smith"
    ):
        import_tasks(tmp_path / "rows.json", "swe")


def test_fields() -> None:
    row = {
        "instance_id": "x-1",
        "a": ["p", "q"],
        "b": '["p"]',
        "c": [1],
        "d": "{}",
        "e": {"k": 1},
        "f": '{"k": 1}',
        "g": "\ud800",
    }
    assert string_list(row, "a") == ("p", "q")
    assert string_list(row, "b") == ("p",)
    assert mapping(row, "e") == mapping(row, "f") == {"k": 1}
    assert text(row, "none", default="") == ""
    for read, field, reason in (
        (string_list, "c", "is int, not text"),
        (string_list, "d", "is dict, not a list of strings"),
        (string_list, "none", "is missing"),
        (mapping, "a", "is list, not an object"),
        (text, "g", "is not valid Unicode text"),
    ):
        with pytest.raises(RowError) as caught:
            read(row, field)
        assert (caught.value.row_id, caught.value.field, caught.value.reason) == ("x-1", field, reason)


def test_a_row_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(RowError("x-1", "patch", "is missing")))
    assert (str(error), error.field) == ("row x-1: field patch is missing", "patch")


@given(content=st.binary(max_size=200), suffix=st.sampled_from([".json", ".jsonl", ".parquet"]))
def test_random_bytes_never_raise_anything_else(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"random{suffix}"
    path.write_bytes(content)
    with suppress(RowFileError):
        for _, row in read_rows(path):
            assert isinstance(row, dict | RowError)
