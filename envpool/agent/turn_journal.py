"""Finished turns as JSON lines, written the moment they are finished: a killed process loses at most the turn in flight."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from envpool.trajectory import Turn


@dataclass(frozen=True)
class JournalEntry:
    """One turn of one episode. A retried episode writes its turns again; the later entry of a turn counts. `seed` is the
    group's: it tells one playing of a task from another."""

    instance_id: str
    sample_index: int
    turn_index: int
    turn: Turn
    seed: int = 0


class TurnJournal:
    """Appends to one file, one line a turn, flushed to the operating system at once. One writer a file.

    Opening cuts off a last line that a killed writer left unfinished.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab+", buffering=0)
        self._file.truncate(_whole_lines_end(self._file))

    def append(self, instance_id: str, sample_index: int, turn_index: int, turn: Turn, seed: int = 0) -> None:
        """Write one turn. Log-probs that are NaN become null."""
        which = {"instance_id": instance_id, "sample_index": sample_index, "turn_index": turn_index, "seed": seed}
        record = {**which, **_turn_record(turn)}
        self._file.write(orjson.dumps(record, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE))

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "TurnJournal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_journal(path: Path) -> Iterator[JournalEntry]:
    """Every turn written, in order. An unfinished last line is left out; any other broken line is a ValueError."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            yield journal_entry(line, f"{path}, line {number}")


def journal_entry(line: bytes, place: str) -> JournalEntry:
    """A whole line of a journal. Raises ValueError that names the `place` of a broken one."""
    try:
        return _entry(orjson.loads(line))
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{place}: not a journalled turn ({error})") from error


_FLAGS = {"restart": False, "summary": False, "train": True}
"""Fields of a turn that are written where they differ from these; lines of earlier versions lack them."""


def _turn_record(turn: Turn) -> dict[str, Any]:
    return {
        "context_ids": np.ascontiguousarray(turn.context_ids, np.int32),
        "completion_ids": np.ascontiguousarray(turn.completion_ids, np.int32),
        "rollout_logprobs": np.ascontiguousarray(turn.rollout_logprobs, np.float32),
        "policy_versions": np.ascontiguousarray(turn.policy_versions, np.int32),
        "text": turn.text,
        "action": turn.action,
        "observation": turn.observation,
        "generate_s": turn.generate_s,
        "tool_s": turn.tool_s,
        **{name: value for name, usual in _FLAGS.items() if (value := getattr(turn, name)) is not usual},
    }


def _entry(record: dict[str, Any]) -> JournalEntry:
    logprobs = [float("nan") if value is None else value for value in record["rollout_logprobs"]]
    turn = Turn(
        context_ids=np.array(record["context_ids"], np.int32),
        completion_ids=np.array(record["completion_ids"], np.int32),
        rollout_logprobs=np.array(logprobs, np.float32),
        policy_versions=np.array(record["policy_versions"], np.int32),
        text=record["text"],
        action=record["action"],
        observation=record["observation"],
        generate_s=record["generate_s"],
        tool_s=record["tool_s"],
        **{name: bool(record.get(name, usual)) for name, usual in _FLAGS.items()},
    )
    return JournalEntry(record["instance_id"], record["sample_index"], record["turn_index"], turn, record.get("seed", 0))


def _whole_lines_end(file: Any) -> int:
    """Offset behind the last newline; reads backwards, since journals grow long."""
    end: int = file.seek(0, 2)
    while end > 0:
        start = max(0, end - 65_536)
        file.seek(start)
        newline: int = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0
