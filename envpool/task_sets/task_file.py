"""Prepared tasks: one Parquet file with whole tasks, written once from somebody's dataset and read wherever they are used.

Unlike a run's task set (`task_store`) it keeps problem and oracle in one row: it is an input, never given to an agent.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from envpool.parquet_file import ParquetFileError, iter_parquet, write_parquet
from envpool.problem import Problem
from envpool.task import Task
from envpool.task_sets.problem_store import PROBLEM_FIELDS, PROBLEM_SCHEMA
from envpool.task_sets.task_store import ORACLE_SCHEMA, oracle_row, task_from_rows

TASK_SCHEMA = pa.schema([*PROBLEM_SCHEMA, *(field for field in ORACLE_SCHEMA if field.name not in PROBLEM_FIELDS)])
FORMAT = {"swe_master_tasks": "1"}


class TaskFileError(ValueError):
    """A file of prepared tasks that cannot be read or written; one line."""


def write_task_file(path: Path, tasks: Iterable[Task]) -> None:
    """Write tasks as they come, a few hundred in memory at a time; an old file stays until the new one is whole.

    Raises TaskFileError; an error of the iterable itself passes through.
    """
    rows = (oracle_row(task) | asdict(task.problem) for task in tasks)
    try:
        write_parquet(path, rows, TASK_SCHEMA, FORMAT)
    except (OSError, pa.ArrowException) as error:
        raise TaskFileError(f"{path}: cannot be written ({' '.join(str(error).split())[:200]})") from error


def iter_tasks(path: Path) -> Iterator[Task]:
    """The tasks of a prepared file in order, a few hundred in memory at a time. Raises TaskFileError."""
    try:
        for row in iter_parquet(path, TASK_SCHEMA):
            yield task_from_rows(Problem(**{name: row[name] for name in PROBLEM_FIELDS}), row)
    except ParquetFileError as error:
        raise TaskFileError(f"{error}; expected a file of `swe-master tasks prepare`") from error
