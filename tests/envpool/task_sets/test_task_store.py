"""Task sets on disk: round trip, the two halves, damaged files."""

from dataclasses import replace
from pathlib import Path

import pytest

from envpool.oracle import HiddenFile, Oracle
from envpool.preparation import Preparation
from envpool.problem import Problem
from envpool.task import Task
from envpool.task_sets.task_store import TaskStoreError, read_problems, read_tasks, write_tasks


def make_task(instance_id: str, statement: str = "It breaks.\r\nAlways.") -> Task:
    return Task(
        problem=Problem(instance_id, "a/b", "HEAD", "folder:x", "/testbed", statement),
        oracle=Oracle(
            instance_id,
            "gold secret",
            "test secret",
            ("t::a",),
            ("t::b", "t::c é"),
            "python3 t.py\n",
            "parse_log_pytest",
            30.0,
            hidden_files=(HiddenFile("/tests/x.bin", b"\xff\x00secret", True),),
            junit=True,
            resolution="exact_map",
            expected_status=(("t::a", "PASSED"), ("t::d", "FAILED")),
        ),
        source="test",
        split="train",
        language="python",
        licence="MIT",
        raw='{"answer": "raw secret"}',
        preparation=Preparation("touch secret\n", ("/r2e_tests", "run_tests.sh")),
        difficulty="15 min - 1 hour",
    )


def test_a_task_set_reads_back_equal_and_in_order(tmp_path: Path) -> None:
    tasks = [make_task("b"), make_task("a"), replace(make_task("c"), split="heldout")]
    write_tasks(tmp_path / "set", tasks)
    assert read_tasks(tmp_path / "set") == tasks
    assert read_problems(tmp_path / "set") == [task.problem for task in tasks]
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == ["oracles.parquet", "problems.parquet"]


def test_an_empty_set_is_a_set(tmp_path: Path) -> None:
    write_tasks(tmp_path, [])
    assert read_tasks(tmp_path) == []


def test_problems_are_readable_without_oracles_and_hold_nothing_of_them(tmp_path: Path) -> None:
    write_tasks(tmp_path, [make_task("a")])
    (tmp_path / "oracles.parquet").unlink()
    assert [problem.instance_id for problem in read_problems(tmp_path)] == ["a"]
    assert b"secret" not in (tmp_path / "problems.parquet").read_bytes()
    assert "secret" not in repr(read_problems(tmp_path))


def test_missing_truncated_and_foreign_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(TaskStoreError, match=r"problems\.parquet: no such file$"):
        read_tasks(tmp_path)
    write_tasks(tmp_path, [make_task("a")])
    oracles = tmp_path / "oracles.parquet"
    whole = oracles.read_bytes()
    for damaged in (whole[:100], b"", b"no parquet at all", whole[: len(whole) // 2] + whole[len(whole) // 2 + 40 :]):
        oracles.write_bytes(damaged)
        with pytest.raises(TaskStoreError, match=r"oracles\.parquet: ") as caught:
            read_tasks(tmp_path)
        assert "\n" not in str(caught.value)
    oracles.write_bytes((tmp_path / "problems.parquet").read_bytes())
    with pytest.raises(TaskStoreError, match="column gold_patch is missing"):
        read_tasks(tmp_path)


def test_halves_of_two_sets_are_refused(tmp_path: Path) -> None:
    write_tasks(tmp_path / "one", [make_task("a")])
    write_tasks(tmp_path / "two", [make_task("a", "Another text.")])
    (tmp_path / "one" / "oracles.parquet").write_bytes((tmp_path / "two" / "oracles.parquet").read_bytes())
    with pytest.raises(TaskStoreError, match="different task sets"):
        read_tasks(tmp_path / "one")


def test_an_id_used_twice_is_refused_and_the_old_set_stays(tmp_path: Path) -> None:
    write_tasks(tmp_path, [make_task("old")])
    with pytest.raises(TaskStoreError, match="instance_id a is used twice"):
        write_tasks(tmp_path, [make_task("a"), make_task("a")])
    assert [task.instance_id for task in read_tasks(tmp_path)] == ["old"]
