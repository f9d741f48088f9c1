"""A task set on disk: a folder with `problems.parquet` (what an agent may see) and `oracles.parquet` (the rest).

Agent-side code reads problems alone, through `envpool.task_sets.problem_store`; this module reads both halves.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from envpool.oracle import HiddenFile, Oracle
from envpool.parquet_file import ParquetFileError, read_parquet, write_parquet
from envpool.preparation import Preparation
from envpool.problem import Problem
from envpool.task import Task
from envpool.task_sets.problem_store import PROBLEM_SCHEMA, PROBLEMS_FILE, TaskStoreError, read_problems

__all__ = ["TaskStoreError", "read_problems", "read_tasks", "write_tasks"]

ORACLES_FILE = "oracles.parquet"


def _list_of(**types: pa.DataType) -> pa.DataType:
    """A list of structs without nulls."""
    struct = pa.struct([pa.field(name, kind, nullable=False) for name, kind in types.items()])
    return pa.list_(pa.field("item", struct, nullable=False))


_TEST_NAMES = pa.list_(pa.field("item", pa.string(), nullable=False))
_ORACLE_TYPES = {
    "instance_id": pa.string(),
    "gold_patch": pa.string(),
    "test_patch": pa.string(),
    "fail_to_pass": _TEST_NAMES,
    "pass_to_pass": _TEST_NAMES,
    "eval_script": pa.string(),
    "log_parser": pa.string(),
    "timeout_s": pa.float64(),
    "hidden_files": _list_of(path=pa.string(), data=pa.binary(), executable=pa.bool_()),
    "junit": pa.bool_(),
    "resolution": pa.string(),
    "expected_status": _list_of(test=pa.string(), status=pa.string()),
}
_TASK_TYPES = {name: pa.string() for name in ("source", "split", "language", "licence", "raw", "difficulty")}
_PREPARATION_TYPES = {"setup_script": pa.string(), "hidden_paths": _TEST_NAMES}
_TYPES = _ORACLE_TYPES | _TASK_TYPES | _PREPARATION_TYPES
ORACLE_SCHEMA = pa.schema([pa.field(name, kind, nullable=False) for name, kind in _TYPES.items()])


def write_tasks(path: Path, tasks: Iterable[Task]) -> None:
    """Write a task set into folder `path`, replacing one that is there. Each file appears whole or not at all, and both
    carry the set's digest, so that a crash between the two is noticed when reading. Raises TaskStoreError: an id used twice."""
    tasks = list(tasks)
    digest = hashlib.sha256()
    seen: set[str] = set()
    for task in tasks:
        if task.instance_id in seen or task.oracle.instance_id != task.instance_id:
            raise TaskStoreError(f"{path}: instance_id {task.instance_id} is used twice or differs between problem and oracle")
        seen.add(task.instance_id)
        digest.update(repr(task).encode(errors="replace"))
    metadata = {"task_set": digest.hexdigest()}
    problem_rows = (asdict(task.problem) for task in tasks)
    try:
        write_parquet(path / ORACLES_FILE, (oracle_row(task) for task in tasks), ORACLE_SCHEMA, metadata)
        write_parquet(path / PROBLEMS_FILE, problem_rows, PROBLEM_SCHEMA, metadata)
    except OSError as error:
        raise TaskStoreError(f"{path}: cannot write the task set ({error.strerror or error})") from error


def read_tasks(path: Path) -> list[Task]:
    """The task set in folder `path`, in the order it was written. Raises TaskStoreError."""
    try:
        problem_rows, problem_metadata = read_parquet(path / PROBLEMS_FILE, PROBLEM_SCHEMA)
        oracle_rows, oracle_metadata = read_parquet(path / ORACLES_FILE, ORACLE_SCHEMA)
    except ParquetFileError as error:
        raise TaskStoreError(str(error)) from error
    if problem_metadata.get("task_set") != oracle_metadata.get("task_set") or len(problem_rows) != len(oracle_rows):
        raise TaskStoreError(f"{path}: {PROBLEMS_FILE} and {ORACLES_FILE} come from different task sets; write it again")
    return [task_from_rows(Problem(**problem), oracle) for problem, oracle in zip(problem_rows, oracle_rows, strict=True)]


def oracle_row(task: Task) -> dict[str, Any]:
    """Everything of a task but its problem, as a row of ORACLE_SCHEMA."""
    expected = [{"test": test, "status": status} for test, status in task.oracle.expected_status]
    named = {name: getattr(task, name) for name in _TASK_TYPES}
    return asdict(task.oracle) | {"expected_status": expected} | named | asdict(task.preparation)


def task_from_rows(problem: Problem, row: dict[str, Any]) -> Task:
    """The task of a problem and the row of its other half."""
    oracle = {name: row[name] for name in _ORACLE_TYPES}
    oracle["fail_to_pass"] = tuple(row["fail_to_pass"])
    oracle["pass_to_pass"] = tuple(row["pass_to_pass"])
    oracle["hidden_files"] = tuple(HiddenFile(**file) for file in row["hidden_files"])
    oracle["expected_status"] = tuple((item["test"], item["status"]) for item in row["expected_status"])
    preparation = Preparation(row["setup_script"], tuple(row["hidden_paths"]))
    return Task(problem, Oracle(**oracle), preparation=preparation, **{name: row[name] for name in _TASK_TYPES})
