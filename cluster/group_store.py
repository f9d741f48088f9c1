"""Groups on disk, in shards: what is finished survives a crash, and a resumed stage plays only the rest."""

from collections.abc import Iterator
from pathlib import Path

import orjson

from envpool.trajectory_store import read_trajectories, write_trajectories
from verifier.reward import Group, LostEpisode
from verifier.score_columns import score_columns, scored_from_columns

GROUPS_PER_SHARD = 8


class GroupStore:
    """Writes groups to `folder/shard_N.parquet` and `folder/lost_N.jsonl`. One writer at a time; use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self._buffer: list[Group] = []
        self._next = 1 + max((int(path.stem.split("_")[1]) for path in folder.glob("lost_*.jsonl")), default=-1)

    def __enter__(self) -> "GroupStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, group: Group) -> None:
        self._buffer.append(group)
        if len(self._buffer) >= GROUPS_PER_SHARD:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered as one shard. The lost file comes last and marks the shard complete."""
        if not self._buffer:
            return
        rows = [(member.trajectory, score_columns(member)) for group in self._buffer for member in group.members]
        write_trajectories(self._folder / f"shard_{self._next:05d}.parquet", rows)
        lines = [orjson.dumps(group_line(group)) for group in self._buffer]
        (self._folder / f"lost_{self._next:05d}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
        self._next += 1
        self._buffer.clear()


def group_line(group: Group) -> dict[str, object]:
    """What a shard cannot say: how many of its rows are this group's, and which episodes were lost."""
    lost = [[episode.sample_index, episode.error] for episode in group.lost]
    return {"instance_id": group.instance_id, "members": len(group.members), "lost": lost}


def read_groups(folder: Path) -> Iterator[Group]:
    """Every group of the complete shards in `folder`, in the order written; a task may have several."""
    for lost_path in sorted(folder.glob("lost_*.jsonl")):
        rows = iter(read_trajectories(folder / f"shard_{lost_path.stem.split('_')[1]}.parquet"))
        for line in lost_path.read_bytes().splitlines():
            row = orjson.loads(line)
            members = tuple(scored_from_columns(*next(rows)) for _ in range(row["members"]))
            yield Group(row["instance_id"], members, tuple(LostEpisode(index, error) for index, error in row["lost"]))
