"""The run's tasks for the viewer: a list without long columns, or one task with its oracle (this is a curator's tool)."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from envpool.task_sets.problem_store import PROBLEMS_FILE, TaskStoreError
from envpool.task_sets.task_store import ORACLES_FILE

LISTED = {PROBLEMS_FILE: ("instance_id", "repo"), ORACLES_FILE: ("instance_id", "source", "split", "difficulty")}
SHOWN = (
    *("gold_patch", "test_patch", "fail_to_pass", "pass_to_pass", "eval_script", "log_parser", "resolution"),
    *("source", "split", "language", "licence", "difficulty"),
)


def task_list(folder: Path) -> list[dict[str, Any]]:
    """instance_id, repo, source, split and difficulty of every task; nothing without a task set. Raises TaskStoreError."""
    problems = {row["instance_id"]: row for row in _read(folder / PROBLEMS_FILE, LISTED[PROBLEMS_FILE])}
    oracles = {row["instance_id"]: row for row in _read(folder / ORACLES_FILE, LISTED[ORACLES_FILE])}
    return [row | oracles.get(name, {}) for name, row in problems.items()]


def one_task(folder: Path, instance_id: str) -> dict[str, Any] | None:
    """Problem and oracle of a task, or None when the run has no such task. Raises TaskStoreError."""
    files = [folder / name for name in (PROBLEMS_FILE, ORACLES_FILE)]
    return _one_task(folder, instance_id, tuple(file.stat().st_mtime_ns if file.is_file() else 0 for file in files))


@lru_cache(maxsize=256)
def _one_task(folder: Path, instance_id: str, written_at: tuple[int, ...]) -> dict[str, Any] | None:
    found = _read(folder / PROBLEMS_FILE, None, instance_id)
    if not found:
        return None
    oracle = _read(folder / ORACLES_FILE, ("instance_id", *SHOWN), instance_id)
    return found[0] | (oracle[0] if oracle else {})


def _read(path: Path, columns: tuple[str, ...] | None, instance_id: str = "") -> list[dict[str, Any]]:
    """Rows of a file with those of `columns` that it has; only those of one task when `instance_id` is given."""
    if not path.is_file():
        return []
    try:
        names = pq.read_schema(path).names
        wanted = [name for name in (columns or names) if name in names]
        only = [("instance_id", "=", instance_id)] if instance_id else None
        rows: list[dict[str, Any]] = pq.read_table(path, columns=wanted, filters=only).to_pylist()
        return rows
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TaskStoreError(f"{path}: cannot be read ({' '.join(str(error).split())[:200]})") from error
