"""Votes on disk, a line per patch, written as they come: a test-time scaling stage that is run again asks only for the rest."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from verifier.simulated_scoring import Vote

Votes = tuple[Vote | None, ...]


class VoteStore:
    """Votes by (task, patch and observation) of one scorer. `scorer` is anything that decides the votes (settings, weights):
    votes of another scorer lie in another file. One writer at a time; use as a context manager."""

    def __init__(self, folder: Path, scorer: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(orjson.dumps(scorer, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]
        self._path = folder / f"votes_{digest}.jsonl"
        self._votes = dict(_read(self._path))
        self.num_found = len(self._votes)
        self._file = self._path.open("ab", buffering=0)

    def __enter__(self) -> "VoteStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def get(self, instance_id: str, edit: tuple[str, ...]) -> Votes | None:
        """The votes on a patch, None when it was not scored yet."""
        return self._votes.get(_key(instance_id, edit))

    def add(self, instance_id: str, edit: tuple[str, ...], votes: Votes) -> None:
        key = _key(instance_id, edit)
        self._votes[key] = votes
        line = {"key": key, "votes": [None if vote is None else asdict(vote) for vote in votes]}
        self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def _key(instance_id: str, edit: tuple[str, ...]) -> str:
    return f"{instance_id}/{hashlib.sha256(orjson.dumps(edit)).hexdigest()[:24]}"


def _read(path: Path) -> list[tuple[str, Votes]]:
    """Every whole line; what a killed writer left unfinished is cut off, so that the next line does not join it."""
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        path.write_bytes(whole)
    found = []
    for line in whole.splitlines():
        row = orjson.loads(line)
        found.append((row["key"], tuple(None if vote is None else Vote(**vote) for vote in row["votes"])))
    return found
