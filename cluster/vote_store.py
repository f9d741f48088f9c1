"""Votes and signals on disk, a line per patch or task, written as they come, each with what it cost: a test-time scaling stage
that is run again asks only for the rest, and reports the cost of all."""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import orjson

from verifier.patch_signals import PatchSignals
from verifier.simulated_scoring import Vote
from verifier.world_model_client import ModelUsage

Votes = tuple[Vote | None, ...]


@dataclass(frozen=True)
class PatchVotes:
    """The votes on one patch, the calls and tokens they took, and the seconds from the votes stored before them to these (so
    that the seconds of all add up to the wall time, however many patches were read at once)."""

    votes: Votes
    usage: ModelUsage
    seconds: float


@dataclass(frozen=True)
class TaskSignals:
    """The signals of a task's distinct patches, in order, and the seconds since the signals stored before them."""

    signals: tuple[PatchSignals, ...]
    seconds: float


class _KeyedLines:
    """JSON objects by (task, words) in one file. `decides` is anything that decides what they say (settings, weights): with
    another one they lie in another file. One writer at a time; use as a context manager."""

    kind = ""

    def __init__(self, folder: Path, decides: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(orjson.dumps(decides, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
        path = folder / f"{self.kind}_{digest}.jsonl"
        self._rows = {row["key"]: row for row in _whole_lines(path)}
        self.num_found = len(self._rows)
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _row(self, instance_id: str, words: tuple[str, ...]) -> dict[str, Any] | None:
        return self._rows.get(_key(instance_id, words))

    def _write(self, instance_id: str, words: tuple[str, ...], row: dict[str, Any]) -> None:
        key = _key(instance_id, words)
        self._rows[key] = {"key": key, **row}
        self._file.write(orjson.dumps(self._rows[key], option=orjson.OPT_APPEND_NEWLINE))


class VoteStore(_KeyedLines):
    """Votes by (task, patch and observation) of one scorer."""

    kind = "votes"

    def get(self, instance_id: str, edit: tuple[str, ...]) -> PatchVotes | None:
        """The votes on a patch, None when it was not scored yet."""
        row = self._row(instance_id, edit)
        if row is None:
            return None
        votes = tuple(None if vote is None else Vote(**vote) for vote in row["votes"])
        return PatchVotes(votes, ModelUsage(**row["usage"]), row["seconds"])

    def add(self, instance_id: str, edit: tuple[str, ...], read: PatchVotes) -> None:
        votes = [None if vote is None else asdict(vote) for vote in read.votes]
        self._write(instance_id, edit, {"votes": votes, "usage": asdict(read.usage), "seconds": read.seconds})


class SignalStore(_KeyedLines):
    """Signals by (task, its distinct patches)."""

    kind = "signals"

    def get(self, instance_id: str, diffs: tuple[str, ...]) -> TaskSignals | None:
        """The signals of a task's patches, None when they were not tried yet."""
        row = self._row(instance_id, diffs)
        return None if row is None else TaskSignals(tuple(PatchSignals(**one) for one in row["signals"]), row["seconds"])

    def add(self, instance_id: str, diffs: tuple[str, ...], tried: TaskSignals) -> None:
        self._write(instance_id, diffs, {"signals": [asdict(one) for one in tried.signals], "seconds": tried.seconds})


def _key(instance_id: str, words: tuple[str, ...]) -> str:
    return f"{instance_id}/{hashlib.sha256(orjson.dumps(words)).hexdigest()[:24]}"


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole line; what a killed writer left unfinished is cut off, so that the next line does not join it."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        path.write_bytes(whole)
    return [orjson.loads(line) for line in whole.splitlines()]
