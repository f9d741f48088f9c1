"""What the index keeps of one trajectory file: its scalar columns and its groups. No turn is decoded."""

from itertools import groupby
from pathlib import Path
from typing import Any

from cluster.group_store import GroupStoreError, check_count, read_shard_lines
from envpool.trajectories.trajectory_columns import read_scalars
from envpool.trajectories.trajectory_store import TrajectoryFileError, open_trajectory_file

NEEDED: dict[str, type] = {"instance_id": str, "sample_index": int, "policy_name": str, "stop_reason": str, "seconds": float}
COUNTED: dict[str, type] = {"num_turns": int, "num_tokens": int}
"""Computed from the turns where an older file lacks them."""
SCORED: dict[str, type] = {"reward": float, "train": bool, "resolved": bool}
"""Absent from files that were written without grades."""
COLUMNS = NEEDED | COUNTED | SCORED


def lost_file(shard: Path) -> Path:
    """Where the groups of `shard_N.parquet` are described: `lost_N.jsonl` beside it."""
    return shard.with_name(f"lost_{shard.stem.removeprefix('shard_')}.jsonl")


def stamp(path: Path) -> list[int]:
    """[modification time in ns, size in bytes] of a file and of its lost file; what makes a cached entry stale."""
    found = []
    for one in (path, lost_file(path)):
        try:
            status = one.stat()
            found += [status.st_mtime_ns, status.st_size]
        except OSError:
            found += [0, 0]
    return found


def shard_facts(path: Path) -> dict[str, Any]:
    """{"columns": {name: values}, "groups": [[instance_id, members, step, lost]], "problem": ""} of one file.

    A file that cannot be read has no rows and says why in `problem`; one whose groups are not described keeps its rows, and
    consecutive rows of a task are taken as a group.
    """
    try:
        with open_trajectory_file(path) as file:
            names = set(file.schema_arrow.names)
            num_rows = file.metadata.num_rows
        wanted = NEEDED | COUNTED | {name: kind for name, kind in SCORED.items() if name in names}
        rows = list(read_scalars(path, wanted)) if num_rows else []
    except (TrajectoryFileError, OSError) as error:
        return {"columns": {name: [] for name in COLUMNS}, "groups": [], "problem": str(error)}
    columns = {name: [row.get(name) for row in rows] for name in COLUMNS}
    groups, problem = _groups(path, [row["instance_id"] for row in rows])
    return {"columns": columns, "groups": groups, "problem": problem}


def _groups(path: Path, instance_ids: list[str]) -> tuple[list[list[Any]], str]:
    described = lost_file(path)
    problem = ""
    if described.is_file():
        try:
            lines = read_shard_lines(described)
            check_count(path, lines, len(instance_ids))
            lost = [[[one.sample_index, one.error] for one in line.lost] for line in lines]
            groups = [[line.instance_id, line.members, line.step, gone] for line, gone in zip(lines, lost, strict=True)]
            return groups, ""
        except (GroupStoreError, OSError) as error:
            problem = str(error)
    elif path.stem.startswith("shard_"):
        problem = f"{path} is not complete: {described.name} is missing (still being written, or a run that was killed)"
    return [[name, len(list(members)), 0, []] for name, members in groupby(instance_ids)], problem
