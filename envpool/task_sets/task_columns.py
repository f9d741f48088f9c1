"""What curation needs to know of a task set, read without its long columns (patches, scripts, raw rows)."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from envpool.task_sets.problem_store import PROBLEMS_FILE, TaskStoreError
from envpool.task_sets.task_store import ORACLES_FILE


@dataclass(frozen=True)
class TaskOrigin:
    """Where a task comes from. `base_commit` is the other key that released statistics name it by."""

    source: str
    split: str
    base_commit: str


def read_task_origins(path: Path) -> dict[str, TaskOrigin]:
    """The origin of every task in folder `path`, by instance id; empty when there is no task set. Raises TaskStoreError."""
    if not (path / ORACLES_FILE).is_file():
        return {}
    try:
        oracles = pq.read_table(path / ORACLES_FILE, columns=["instance_id", "source", "split"]).to_pylist()
        problems = pq.read_table(path / PROBLEMS_FILE, columns=["instance_id", "base_commit"]).to_pylist()
        commits = {row["instance_id"]: row["base_commit"] for row in problems}
        return {row["instance_id"]: TaskOrigin(row["source"], row["split"], commits[row["instance_id"]]) for row in oracles}
    except (pa.ArrowException, OSError, KeyError) as error:
        raise TaskStoreError(f"{path}: cannot read the tasks' sources ({' '.join(str(error).split())[:200]})") from error
