"""From rows to a file of prepared tasks: every row is accounted for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from envpool.curation.heldout_split import Clash, HeldoutSet, NearDuplicate
from envpool.curation.issue_index import similarity
from envpool.dataset_rows import hub_rows
from envpool.dataset_rows.hub_rows import HubRowsError, parse_hub_id
from envpool.dataset_rows.row_file import RowFileError, read_input
from envpool.dataset_rows.task_preparing import PrepareReport, errors_path, heldout_set, prepare_tasks
from envpool.task_sets.task_file import TaskFileError, iter_tasks, write_task_file
from envpool.task_sources import TASK_SOURCES
from tests.envpool.curation.test_decontamination import EDITED, ISSUE, OTHER
from tests.envpool.task_sources.row_examples import EXAMPLES, rebench_row, swe_row

MORE = "The command line exits with zero although a sub-command failed, so that continuous integration never notices it."


def write_rows(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


@pytest.mark.parametrize("source", sorted(TASK_SOURCES))
def test_prepared_tasks_read_back_equal(tmp_path: Path, source: str) -> None:
    task = TASK_SOURCES[source](EXAMPLES[source]())
    write_task_file(tmp_path / "new" / "tasks.parquet", [task])
    assert list(iter_tasks(tmp_path / "new" / "tasks.parquet")) == [task]


def test_every_row_is_a_task_an_error_or_contaminated(tmp_path: Path) -> None:
    rows: list[Any] = [
        rebench_row(instance_id="a-1", repo="one/repo", problem_statement=MORE),
        rebench_row(instance_id="a-2", repo="one/repo", patch="no diff"),
        rebench_row(instance_id="a-3", repo="one/repo", problem_statement=EDITED),
        rebench_row(instance_id="a-4", repo="astropy/astropy", problem_statement=OTHER),
        rebench_row(instance_id="a-1", repo="one/repo", problem_statement=OTHER),
        rebench_row(instance_id="a-5", repo="one/repo", problem_statement=MORE.upper()),
        7,
    ]
    second = rebench_row(instance_id="b-1", repo="two/repo", problem_statement=OTHER)
    addresses = [write_rows(tmp_path / "one.jsonl", rows), write_rows(tmp_path / "two.jsonl", [second])]
    held = tmp_path / "heldout.parquet"
    swe = write_rows(tmp_path / "verified.jsonl", [swe_row(instance_id="v-1", problem_statement=ISSUE)])
    assert prepare_tasks([swe], "swe_bench", held, split="heldout").tasks == 1
    assert [task.split for task in iter_tasks(held)] == ["heldout"]
    heldout = heldout_set([held], repositories=True, similarity=0.6)
    target = tmp_path / "train.parquet"
    report = prepare_tasks(addresses, "swe_rebench", target, heldout=heldout)
    assert report == PrepareReport(
        rows=8,
        tasks=3,
        errors={"patch": 1, "instance_id": 1, "(row)": 1},  # type: ignore[arg-type]
        contaminated=[
            Clash("a-3", "issue text", "v-1", similarity(ISSUE, EDITED)),
            Clash("a-4", "repository", "v-1", 0.0),
        ],
        duplicates=[NearDuplicate("a-5", "a-1", 1.0)],
    )
    assert [task.instance_id for task in iter_tasks(target)] == ["a-1", "a-5", "b-1"]
    told = [json.loads(line) for line in errors_path(target).read_text().splitlines()]
    assert [(error["position"], error["row_id"], error["field"]) for error in told] == [
        (2, "a-2", "patch"),
        (5, "a-1", "instance_id"),
        (7, "at line 7", "(row)"),
    ]
    assert told[0]["row"] == rows[1]
    assert told[0]["input"] == addresses[0]
    assert json.loads(json.dumps(report.as_dict()))["contaminated"][1]["heldout_id"] == "v-1"


def test_a_second_run_replaces_the_first_and_its_errors(tmp_path: Path) -> None:
    target = tmp_path / "tasks.parquet"
    prepare_tasks([write_rows(tmp_path / "a.jsonl", [rebench_row(repo=None)])], "swe_rebench", target)
    assert (list(iter_tasks(target)), errors_path(target).is_file()) == ([], True)
    prepare_tasks([write_rows(tmp_path / "a.jsonl", [rebench_row()])], "swe_rebench", target)
    assert (len(list(iter_tasks(target))), errors_path(target).exists()) == (1, False)


def test_an_unreadable_input_leaves_everything_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "tasks.parquet"
    good = write_rows(tmp_path / "a.jsonl", [rebench_row()])
    prepare_tasks([good], "swe_rebench", target)
    before = target.read_bytes()
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(RowFileError, match=r"cut\.parquet: not a readable Parquet file"):
        prepare_tasks([good, str(tmp_path / "cut.parquet")], "swe_rebench", target)
    assert target.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "cut.parquet", "tasks.parquet"]
    for source, split, message in (("swe", "train", "unknown task source"), ("swe_rebench", "test", "unknown split 'test'")):
        with pytest.raises(ValueError, match=message):
            prepare_tasks([good], source, target, split=split)


def test_a_file_that_holds_no_tasks_says_what_is_expected(tmp_path: Path) -> None:
    pq.write_table(pa.table({"instance_id": ["a"]}), tmp_path / "rows.parquet")
    with pytest.raises(TaskFileError, match=r"column \w+ is missing; expected a file of `swe-master tasks prepare`"):
        list(iter_tasks(tmp_path / "rows.parquet"))
    with pytest.raises(TaskFileError, match="no such file"):
        heldout_set([tmp_path / "none.parquet"], repositories=True, similarity=0.6)


def test_hub_rows_are_streamed_with_the_split_asked_for() -> None:
    calls = []

    def load(name: str, **options: Any) -> list[dict[str, int]]:
        calls.append((name, options))
        return [{"a": 1}, {"a": 2}]

    assert list(hub_rows.hub_rows("hf:owner/name:test", load)) == [{"a": 1}, {"a": 2}]
    assert calls == [("owner/name", {"split": "test", "streaming": True})]
    assert parse_hub_id("hf:owner/name") == ("owner/name", "train")


class TransportError(Exception):
    """As httpx's: of no standard kind."""


@pytest.mark.parametrize("error", [ConnectionError, TransportError])
def test_a_hub_that_cannot_be_reached_is_one_line(error: type[Exception]) -> None:
    def load(name: str, **options: Any) -> Iterator[dict[str, int]]:
        yield {"a": 1}
        raise error("Couldn't reach the hub\nat all")

    rows = hub_rows.hub_rows("hf:o/n", load)
    assert next(rows) == {"a": 1}
    with pytest.raises(HubRowsError, match=r"hf:o/n: cannot be read from the hub \(Couldn't reach the hub at all\); without"):
        next(rows)
    with pytest.raises(RowFileError, match="expected hf:owner/name"):
        list(read_input("hf:name"))


def test_without_the_package_the_hub_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_module(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(hub_rows, "import_module", no_module)
    with pytest.raises(RowFileError, match=r"hf:o/n: needs the package datasets: pip install 'swe-master-ray\[hub\]'"):
        list(read_input("hf:o/n"))


def test_heldout_sets_of_several_files_may_overlap(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_task_file(tmp_path / name, [TASK_SOURCES["swe_bench"](swe_row())])
    assert len(heldout_set([tmp_path / "a", tmp_path / "b"], repositories=True, similarity=0.6)) == 1
    assert len(HeldoutSet([])) == 0
