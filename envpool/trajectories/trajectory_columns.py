"""Reading a part of stored trajectories: the scalar columns, or the texts of chosen ones. Token arrays are never decoded.

A row group at a time, and of it only the columns asked for.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from envpool.agent.history_reads import reads_history
from envpool.trajectories.trajectory_store import DERIVED, TrajectoryFileError, broken_file, open_trajectory_file

_TURN_PATH = "turns.list.element."
_BATCH = 4096
_CALLS_AGAIN = r"(?s)</function>.*<function=[ \t\r\n\f]*[A-Za-z_]"
"""As `envpool.trajectories.trajectory_store.derived_counts` counts repeated calls."""


@dataclass(frozen=True)
class TurnTexts:
    """What the model said in one turn, and what the tool answered."""

    text: str
    observation: str


@dataclass(frozen=True)
class TrajectoryTexts:
    """A trajectory as text alone."""

    instance_id: str
    sample_index: int
    policy_name: str
    prompt: str
    turns: tuple[TurnTexts, ...]


def read_scalars(path: Path, columns: Mapping[str, type]) -> Iterator[dict[str, Any]]:
    """One dict per trajectory with the named columns, in the order written.

    `columns` gives each column's Python type (str, bool, float or int); those of `DERIVED` that an older file lacks are
    computed from its turns' texts and lengths. Raises FileNotFoundError, and TrajectoryFileError for a damaged file, a missing
    column, another type, or an empty cell.
    """
    with open_trajectory_file(path) as file:
        names = set(file.schema_arrow.names)
        computed = [name for name in columns if name in DERIVED and name not in names]
        stored = [name for name in columns if name not in computed]
        for name in stored:
            _check_type(path, file.schema_arrow, name, columns[name])
        try:
            if computed:
                yield from _computed_scalars(path, file, stored, computed)
                return
            for batch in file.iter_batches(batch_size=_BATCH, columns=stored):
                yield from _plain_rows(path, batch)
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            raise broken_file(path, error) from error


def read_texts(path: Path, keep: Callable[[str, int], bool]) -> Iterator[TrajectoryTexts]:
    """The texts of the trajectories for which `keep(instance_id, sample_index)` holds, in the order written.

    Summaries of the history are left out: a text is the whole conversation. Raises as `read_scalars` does.
    """
    plain = ["instance_id", "sample_index", "policy_name", "prompt"]
    columns = [*plain, _TURN_PATH + "text", _TURN_PATH + "observation"]
    with open_trajectory_file(path) as file:
        if _turns_have(file, "summary"):
            columns.append(_TURN_PATH + "summary")
        try:
            for index in range(file.num_row_groups):
                keys = file.read_row_group(index, columns=plain[:2]).to_pylist()
                rows = [place for place, row in enumerate(keys) if keep(row["instance_id"], row["sample_index"])]
                if rows:
                    for row in file.read_row_group(index, columns=columns).take(rows).to_pylist():
                        turns = tuple(TurnTexts(**turn) for turn in row.pop("turns") if not turn.pop("summary", False))
                        yield TrajectoryTexts(**row, turns=turns)
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            raise broken_file(path, error) from error


def _turns_have(file: Any, name: str) -> bool:
    return any(field.name == name for field in file.schema_arrow.field("turns").type.value_type)


def _check_type(path: Path, schema: Any, name: str, expected: type) -> None:
    if name not in schema.names:
        raise TrajectoryFileError(f"{path}: column {name} is missing; it was written by another version or is no scored rollout")
    kind = schema.field(name).type
    fits = {str: pa.types.is_string, bool: pa.types.is_boolean, float: pa.types.is_floating, int: pa.types.is_integer}
    if not fits[expected](kind):
        raise TrajectoryFileError(f"{path}: column {name} holds {kind}, not {expected.__name__}")


def _plain_rows(path: Path, batch: Any) -> list[dict[str, Any]]:
    empty = [name for name in batch.schema.names if batch.column(name).null_count]
    if empty:
        raise TrajectoryFileError(f"{path}: column {empty[0]} has empty cells")
    rows: list[dict[str, Any]] = batch.to_pylist()
    return rows


def _computed_scalars(path: Path, file: Any, stored: Sequence[str], computed: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The same for a file that lacks some derived columns: reads each turn's texts and the lengths of its token lists."""
    leaves = [_TURN_PATH + name for name in ("text", "action", "restart") if _turns_have(file, name)]
    ids = [f"{_TURN_PATH}{name}.list.element" for name in ("context_ids", "completion_ids")]
    for index in range(file.num_row_groups):
        rows = _plain_rows(path, file.read_row_group(index, columns=list(stored)))
        nested = file.read_row_group(index, columns=[*leaves, *ids])["turns"].combine_chunks()
        turns = nested.flatten()
        ends = np.cumsum(_lengths(nested))
        counts = {
            name: _longest_samples(turns, ends) if name == "longest_sample" else _sums(_COUNTS_PER_TURN[name](turns), ends)
            for name in computed
        }
        for place, row in enumerate(rows):
            yield row | {name: int(counts[name][place]) for name in computed}


def _history_reads(turns: Any) -> Any:
    return np.array([reads_history(action) for action in turns.field("action").to_pylist()], np.int64)


def _lengths(lists: Any) -> Any:
    return lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)


def _num_tokens(turns: Any) -> Any:
    return _lengths(turns.field("context_ids")) + _lengths(turns.field("completion_ids"))


def _longest_samples(turns: Any, ends: Any) -> list[int]:
    """As Trajectory.longest_sample, of consecutive trajectories that end before `ends`."""
    tokens = _num_tokens(turns)
    flagged = turns.type.get_field_index("restart") >= 0
    restarts = np.flatnonzero(_numbers(turns.field("restart"))) if flagged else np.zeros(0, np.int64)
    longest = []
    for first, end in itertools.pairwise([0, *ends.tolist()]):
        inside = restarts[(restarts > first) & (restarts < end)]
        longest.append(max(int(part.sum()) for part in np.split(tokens[first:end], inside - first)))
    return longest


def _numbers(flags: Any) -> Any:
    return flags.cast(pa.int64()).to_numpy(zero_copy_only=False)


def _sums(values: Any, ends: Any) -> Any:
    """The sums of consecutive parts that end before `ends`."""
    total = np.concatenate([[0], np.cumsum(values)])
    return np.diff(total[np.concatenate([[0], ends])])


_COUNTS_PER_TURN: dict[str, Callable[[Any], Any]] = {
    "num_turns": lambda turns: np.ones(len(turns), np.int64),
    "num_tokens": _num_tokens,
    "num_missed_calls": lambda turns: _numbers(pc.equal(turns.field("action"), "")),
    "num_repeated_calls": lambda turns: _numbers(pc.match_substring_regex(turns.field("text"), _CALLS_AGAIN)),
    "num_history_reads": _history_reads,
}
"""For every derived column that is a sum, what each turn adds to it."""
