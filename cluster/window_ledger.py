"""trainers.group_ledger's ledger on disk: a line per event, a shard per finished group. See docs/grpo.md."""

import asyncio
import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from cluster.group_store import GroupStoreError, read_shard, write_shard
from envpool.patient_thread import in_patient_thread
from trainers.group_key import GroupKey
from trainers.group_ledger import LedgerState
from verifier.reward import Group


class WindowLedgerError(ValueError):
    """A damaged ledger or a group file that is gone; one line that names it and what to do."""


@dataclass
class LedgerRecord:
    """Everything the events say, in their order."""

    begun: dict[GroupKey, int] = field(default_factory=dict)
    """Policy version at the start."""
    completed: dict[GroupKey, None] = field(default_factory=dict)
    taken: dict[int, tuple[GroupKey, ...]] = field(default_factory=dict)
    rejected: dict[GroupKey, str] = field(default_factory=dict)

    @property
    def in_flight(self) -> list[GroupKey]:
        gone = {key for keys in self.taken.values() for key in keys} | self.rejected.keys()
        return [key for key in self.begun if key not in gone]


class WindowLedger:
    """`folder/ledger.jsonl` and `folder/shard_<step>-<index>-<task>.parquet`. One writer; an event that a crash cut short
    never was.

    Raises WindowLedgerError when the file is damaged.
    """

    def __init__(self, folder: Path, start_step: int, groups_per_step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._path = folder, folder / "ledger.jsonl"
        record = read_ledger(self._path)
        self._state = _state_of(record, start_step, groups_per_step)
        self._kept = dict(record.taken)
        """By step: groups that no checkpoint has learned from yet."""
        self._file = self._path.open("ab+", buffering=0)
        self._file.truncate(_end_of_lines(self._path))

    def opened(self) -> LedgerState:
        return self._state

    def submitted(self, key: GroupKey, version: int) -> None:
        self._write({"event": "begun", "key": str(key), "version": version})

    async def completed(self, key: GroupKey, group: Group) -> None:
        try:
            await in_patient_thread(partial(write_shard, self._folder, shard_name(key), [(group, 0)]))
        except asyncio.CancelledError:  # a group that was dropped meanwhile leaves no file
            self._remove(key)
            raise
        self._write({"event": "completed", "key": str(key)})

    def load(self, key: GroupKey) -> Group:
        name = shard_name(key)
        try:
            return next(read_shard(self._folder / f"lost_{name}.jsonl", self._folder / f"shard_{name}.parquet"))
        except (GroupStoreError, OSError, StopIteration) as error:
            raise WindowLedgerError(
                f"{self._folder}: the finished group {key} cannot be read ({error}); restore it, or remove {self._folder} to "
                "play from the last checkpoint again"
            ) from error

    def taken(self, step: int, keys: Sequence[GroupKey]) -> None:
        self._kept[step] = tuple(keys)
        self._write({"event": "taken", "step": step, "keys": [str(key) for key in keys]})
        os.fsync(self._file.fileno())

    def rejected(self, key: GroupKey, reason: str) -> None:
        self._write({"event": "rejected", "key": str(key), "reason": reason[:300]})
        self._remove(key)

    def forget_before(self, step: int) -> None:
        """Remove the files of groups that a checkpoint after `step` steps has learned from."""
        for done in [taken for taken in self._kept if taken < step]:
            for key in self._kept.pop(done):
                self._remove(key)

    def close(self) -> None:
        self._file.close()

    def _remove(self, key: GroupKey) -> None:
        for name in (f"lost_{shard_name(key)}.jsonl", f"shard_{shard_name(key)}.parquet"):
            (self._folder / name).unlink(missing_ok=True)

    def _write(self, event: dict[str, Any]) -> None:
        self._file.write(orjson.dumps(event) + b"\n")


def _state_of(record: LedgerRecord, start_step: int, groups_per_step: int) -> LedgerState:
    planned = [key.step * groups_per_step + key.index for key in record.begun if key.index < groups_per_step]
    return LedgerState(
        taken={step: keys for step, keys in record.taken.items() if step >= start_step},
        playing={key: record.begun[key] for key in record.in_flight if key not in record.completed},
        complete={key: record.begun[key] for key in record.in_flight if key in record.completed},
        next_position=max(planned, default=start_step * groups_per_step - 1) + 1,
        accepted=sum(len(keys) for keys in record.taken.values()),
        rejected=tuple(record.rejected),
    )


def shard_name(key: GroupKey) -> str:
    """A file name's part for a group of this run; two tasks that were planned for one place have two names.

    >>> shard_name(GroupKey(3, 1, "demo-7"))
    '00003-0001-3df40c87623f'
    """
    task = hashlib.blake2b(key.task_id.encode(), digest_size=6).hexdigest()
    return f"{key.step:05d}-{key.index:04d}-{task}"


def read_ledger(path: Path) -> LedgerRecord:
    """What a ledger says; a missing file is empty and an unfinished last line was never written. Raises WindowLedgerError."""
    record = LedgerRecord()
    if not path.exists():
        return record
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], start=1):
        try:
            event = orjson.loads(line)
            EVENTS[event["event"]](record, event)
        except (KeyError, TypeError, ValueError) as error:
            raise WindowLedgerError(
                f"{path}: line {number} is no event ({error}); remove {path.parent} to play from the last checkpoint again"
            ) from error
    return record


def _begun(record: LedgerRecord, event: dict[str, Any]) -> None:
    """A group that is begun again after it was rejected has nothing behind it."""
    key = GroupKey.parse(event["key"])
    record.begun[key] = int(event["version"])
    record.completed.pop(key, None)
    record.rejected.pop(key, None)


def _completed(record: LedgerRecord, event: dict[str, Any]) -> None:
    record.completed[GroupKey.parse(event["key"])] = None


def _taken(record: LedgerRecord, event: dict[str, Any]) -> None:
    record.taken[int(event["step"])] = tuple(map(GroupKey.parse, event["keys"]))


def _rejected(record: LedgerRecord, event: dict[str, Any]) -> None:
    record.rejected[GroupKey.parse(event["key"])] = str(event["reason"])


EVENTS: dict[str, Callable[[LedgerRecord, dict[str, Any]], None]] = {
    "begun": _begun,
    "completed": _completed,
    "taken": _taken,
    "rejected": _rejected,
}


def _end_of_lines(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1
