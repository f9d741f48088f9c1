"""Reading a part of stored trajectories: the scalar columns, or the texts of chosen ones. Token arrays are never decoded.

A row group at a time, and of it only the columns asked for.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from envpool.trajectory_store import DERIVED, Scalar, TrajectoryFileError, broken_file, open_trajectory_file

_TURN_PATH = "turns.list.element."
_BATCH = 4096
_CALLS_AGAIN = r"(?s)</function>.*<function=[ \t\r\n\f]*[A-Za-z_]"
"""As `envpool.trajectory_store.derived_counts` counts repeated calls."""


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


def read_scalars(
    path: Path, columns: Mapping[str, type], optional: Mapping[str, Scalar] | None = None
) -> Iterator[dict[str, Any]]:
    """One dict per trajectory with the named columns, in the order written.

    `columns` gives each column's Python type (str, bool, float or int); those of `DERIVED` that an older file lacks are
    computed from its turns' texts and lengths. `optional` gives what stands in for a column that the file lacks.
    Raises FileNotFoundError, and TrajectoryFileError for a damaged file, a missing column, another type, or an empty cell.
    """
    with open_trajectory_file(path) as file:
        names = set(file.schema_arrow.names)
        absent = {name: value for name, value in (optional or {}).items() if name not in names}
        wanted = [name for name in columns if name not in absent]
        computed = [name for name in wanted if name in DERIVED and name not in names]
        stored = [name for name in wanted if name not in computed]
        for name in stored:
            _check_type(path, file.schema_arrow, name, columns[name])
        try:
            if computed:
                yield from _computed_scalars(path, file, stored, computed, absent)
                return
            for batch in file.iter_batches(batch_size=_BATCH, columns=stored):
                for row in _plain_rows(path, batch):
                    yield row | absent
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            raise broken_file(path, error) from error


def read_texts(path: Path, keep: Callable[[str, int], bool]) -> Iterator[TrajectoryTexts]:
    """The texts of the trajectories for which `keep(instance_id, sample_index)` holds, in the order written.

    Raises as `read_scalars` does.
    """
    plain = ["instance_id", "sample_index", "policy_name", "prompt"]
    columns = [*plain, _TURN_PATH + "text", _TURN_PATH + "observation"]
    with open_trajectory_file(path) as file:
        try:
            for index in range(file.num_row_groups):
                keys = file.read_row_group(index, columns=plain[:2]).to_pylist()
                rows = [place for place, row in enumerate(keys) if keep(row["instance_id"], row["sample_index"])]
                if rows:
                    for row in file.read_row_group(index, columns=columns).take(rows).to_pylist():
                        turns = tuple(TurnTexts(**turn) for turn in row.pop("turns"))
                        yield TrajectoryTexts(**row, turns=turns)
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            raise broken_file(path, error) from error


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


def _computed_scalars(
    path: Path, file: Any, stored: Sequence[str], computed: Sequence[str], absent: dict[str, Scalar]
) -> Iterator[dict[str, Any]]:
    """The same for a file without the derived columns: reads each turn's texts and the lengths of its token lists."""
    leaves = [_TURN_PATH + name for name in ("text", "action")]
    ids = [f"{_TURN_PATH}{name}.list.element" for name in ("context_ids", "completion_ids")]
    for index in range(file.num_row_groups):
        rows = _plain_rows(path, file.read_row_group(index, columns=list(stored)))
        nested = file.read_row_group(index, columns=[*leaves, *ids])["turns"].combine_chunks()
        turns = nested.flatten()
        columns = {
            "num_turns": np.ones(len(turns), np.int64),
            "num_tokens": sum(_lengths(turns.field(name)) for name in ("context_ids", "completion_ids")),
            "num_missed_calls": _numbers(pc.equal(turns.field("action"), "")),
            "num_repeated_calls": _numbers(pc.match_substring_regex(turns.field("text"), _CALLS_AGAIN)),
        }
        ends = np.cumsum(_lengths(nested))
        sums = {name: _sums(columns[name], ends) for name in computed}
        for place, row in enumerate(rows):
            yield row | {name: int(sums[name][place]) for name in computed} | absent


def _lengths(lists: Any) -> Any:
    return lists.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)


def _numbers(flags: Any) -> Any:
    return flags.cast(pa.int64()).to_numpy(zero_copy_only=False)


def _sums(values: Any, ends: Any) -> Any:
    """The sums of consecutive parts that end before `ends`."""
    total = np.concatenate([[0], np.cumsum(values)])
    return np.diff(total[np.concatenate([[0], ends])])
