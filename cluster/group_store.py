"""Groups on disk, in shards: what is finished survives a crash, and a resumed stage plays only the rest."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from cluster.run_folder import write_atomically
from envpool.trajectories.trajectory_columns import read_scalars
from envpool.trajectories.trajectory_store import TrajectoryFileError, read_trajectories, write_trajectories
from envpool.trajectory import StopReason
from verifier.reward import Group, LostEpisode, ScoredTrajectory
from verifier.score_columns import score_columns, scored_from_columns
from verifier.trajectory_filter import TrajectoryFacts

GROUPS_PER_SHARD = 8
FACT_COLUMNS: dict[str, type] = {
    "instance_id": str,
    "sample_index": int,
    "policy_name": str,
    "resolved": bool,
    "stop_reason": str,
    "num_turns": int,
    "num_tokens": int,
    "longest_sample": int,
    "num_missed_calls": int,
    "num_repeated_calls": int,
    "num_history_reads": int,
}
OUTCOME_COLUMNS: dict[str, type] = {"instance_id": str, "resolved": bool}


class GroupStoreError(ValueError):
    """A shard whose files are damaged or do not fit together; one line that names the file and what to do."""


@dataclass(frozen=True)
class ShardLine:
    """One group of a shard: how many of the shard's rows are its members, and which episodes were lost.

    `step` is the training step that used the group, counted from 1 as in metrics.jsonl; 0 outside training.
    """

    instance_id: str
    members: int
    lost: tuple[LostEpisode, ...]
    step: int = 0


class GroupStore:
    """Writes groups to `folder/shard_N.parquet` and `folder/lost_N.jsonl`. One writer at a time; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._buffer: list[tuple[Group, int]] = []
        self._next = 1 + max((int(path.stem.split("_")[1]) for path in folder.glob("lost_*.jsonl")), default=-1)

    def __enter__(self) -> "GroupStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, group: Group, step: int = 0) -> None:
        """`step` is the training step that used the group, from 1; 0 outside training."""
        self._buffer.append((group, step))
        if len(self._buffer) >= GROUPS_PER_SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered as one shard."""
        if not self._buffer:
            return
        write_shard(self._folder, f"{self._next:05d}", self._buffer)
        self._next += 1
        self._buffer.clear()


def write_shard(folder: Path, name: str, groups: Sequence[tuple[Group, int]]) -> None:
    """Groups, each with the training step that used it (from 1; 0 outside training), as `shard_<name>.parquet` and
    `lost_<name>.jsonl`, replacing older ones. The lost file comes last and marks the shard complete."""
    rows = [(member.trajectory, score_columns(member)) for group, _ in groups for member in group.members]
    write_trajectories(folder / f"shard_{name}.parquet", rows)
    lines = [orjson.dumps(group_line(group, step)) for group, step in groups]
    write_atomically(folder / f"lost_{name}.jsonl", b"\n".join(lines) + b"\n")


def group_line(group: Group, step: int) -> dict[str, object]:
    """What a shard cannot say: how many of its rows are this group's, which episodes were lost, and when it trained."""
    lost = [[episode.sample_index, episode.error] for episode in group.lost]
    return {"instance_id": group.instance_id, "members": len(group.members), "lost": lost, "step": step}


def read_groups(folder: Path) -> Iterator[Group]:
    """Every group of the complete shards in `folder`, in the order written; a task may have several.

    Raises GroupStoreError for a damaged shard.
    """
    for lost_path, shard in complete_shards(folder):
        yield from read_shard(lost_path, shard)


def members_by_name(folder: Path, wanted: Callable[[str, int], bool] = lambda name, index: True) -> list[ScoredTrajectory]:
    """The members of all groups in `folder` whose (instance_id, sample_index) is `wanted`, sorted by it: shards are in the order
    in which groups happened to finish, and training must not depend on that."""
    members = (member for group in read_groups(folder) for member in group.members)
    named = ((member.trajectory.instance_id, member.trajectory.sample_index, member) for member in members)
    return [member for *_, member in sorted((row for row in named if wanted(*row[:2])), key=lambda row: row[:2])]


def read_shard(lost_path: Path, shard: Path) -> Iterator[Group]:
    """The groups of one shard. Raises GroupStoreError when it is damaged."""
    lines = read_shard_lines(lost_path)
    rows = _named(shard, read_trajectories)
    num_rows = 0
    for line in lines:
        try:
            members = tuple(scored_from_columns(*row) for row in islice(rows, line.members))
        except GroupStoreError:
            raise
        except ValueError as error:
            raise GroupStoreError(f"{shard}: {error}") from error
        num_rows += len(members)
        if len(members) < line.members:
            break
        yield Group(line.instance_id, members, line.lost)
    check_count(shard, lines, num_rows + sum(1 for _ in rows))


def complete_shards(folder: Path) -> list[tuple[Path, Path]]:
    """(lost file, Parquet file) of every complete shard, in the order written."""
    pairs = [(path, folder / f"shard_{path.stem.split('_')[1]}.parquet") for path in sorted(folder.glob("lost_*.jsonl"))]
    for lost, shard in pairs:
        if not shard.is_file():
            raise GroupStoreError(f"{shard} is missing although {lost.name} is there; restore it or remove {lost.name}")
    return pairs


def read_facts(folder: Path, mean_of: Callable[[str], float]) -> Iterator[TrajectoryFacts]:
    """The scalar facts of every trajectory in the complete shards; `mean_of` gives a task's mean reward. Decodes no turn.

    Raises GroupStoreError for a damaged shard.
    """
    for row in _scalar_rows(folder, FACT_COLUMNS):
        try:
            stop_reason = StopReason(row.pop("stop_reason"))
        except ValueError as error:
            raise GroupStoreError(f"{folder}: {row['instance_id']}: {error}") from error
        yield TrajectoryFacts(**row, stop_reason=stop_reason, task_mean=mean_of(row["instance_id"]))


def read_outcomes(folder: Path) -> Iterator[tuple[str, bool]]:
    """(instance_id, resolved) of every trajectory in the complete shards. Raises GroupStoreError for a damaged shard."""
    for row in _scalar_rows(folder, OUTCOME_COLUMNS):
        yield row["instance_id"], row["resolved"]


def count_lost(folder: Path) -> int:
    """Episodes that infrastructure broke. Raises GroupStoreError."""
    return sum(len(line.lost) for lost, _ in complete_shards(folder) for line in read_shard_lines(lost))


def read_shard_lines(path: Path) -> list[ShardLine]:
    """The groups of a shard. Raises GroupStoreError that names the line."""
    lines = []
    for number, text in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            row = orjson.loads(text)
            lost = tuple(LostEpisode(index, error) for index, error in row["lost"])
            lines.append(ShardLine(row["instance_id"], int(row["members"]), lost, int(row.get("step", 0))))
        except (KeyError, TypeError, ValueError) as error:
            raise GroupStoreError(f"{path}: line {number} does not describe a group ({error})") from error
    return lines


def check_count(shard: Path, lines: list[ShardLine], num_rows: int) -> None:
    expected = sum(line.members for line in lines)
    if expected != num_rows:
        raise GroupStoreError(f"{shard} holds {num_rows} trajectories but its groups have {expected}: two runs' files are mixed")


def _scalar_rows(folder: Path, columns: dict[str, type]) -> Iterator[dict[str, Any]]:
    for lost_path, shard in complete_shards(folder):
        lines = read_shard_lines(lost_path)
        num_rows = 0
        for row in _named(shard, lambda path: read_scalars(path, columns)):
            num_rows += 1
            yield row
        check_count(shard, lines, num_rows)


def _named(shard: Path, reader: Callable[[Path], Iterator[Any]]) -> Iterator[Any]:
    try:
        yield from reader(shard)
    except (TrajectoryFileError, FileNotFoundError) as error:
        advice = f"restore it, or remove it with lost_{shard.stem.split('_')[1]}.jsonl and play those tasks again"
        raise GroupStoreError(f"{error}; {advice}") from error
