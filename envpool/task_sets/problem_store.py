"""The half of a task set that agent-side code may open: problems, and nothing that gives their answers away."""

from pathlib import Path

import pyarrow as pa

from envpool.parquet_file import ParquetFileError, read_parquet
from envpool.problem import Problem

PROBLEMS_FILE = "problems.parquet"
PROBLEM_FIELDS = ("instance_id", "repo", "base_commit", "image", "workdir", "problem_statement")
PROBLEM_SCHEMA = pa.schema([pa.field(name, pa.string(), nullable=False) for name in PROBLEM_FIELDS])


class TaskStoreError(ValueError):
    """A task set that cannot be read; one line that names the file and what is wrong with it."""


def read_problems(path: Path) -> list[Problem]:
    """The problems of the task set in folder `path`, in the order they were written. Raises TaskStoreError."""
    try:
        rows, _ = read_parquet(path / PROBLEMS_FILE, PROBLEM_SCHEMA)
    except ParquetFileError as error:
        raise TaskStoreError(str(error)) from error
    return [Problem(**row) for row in rows]
