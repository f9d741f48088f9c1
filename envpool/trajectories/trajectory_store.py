"""Trajectories on disk: one Parquet file (zstd), a row per trajectory, turns nested, scalar columns beside them.

Lossless: ids, log-probs (NaN included), versions, texts. A file appears whole or not at all. Counts that follow from the
turns (`DERIVED`) are stored too, so that `trajectory_columns` can filter without decoding a turn; files written
before they existed are read as well.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from envpool.agent.history_reads import num_history_reads
from envpool.patch import Patch
from envpool.trajectory import StopReason, Trajectory, Turn

Scalar = bool | float | str
ROWS_PER_GROUP = 256
"""Trajectories converted at once; bounds memory and keeps Arrow's 32-bit offsets far away."""

_ARRAYS: dict[str, Any] = {
    "context_ids": np.int32,
    "completion_ids": np.int32,
    "rollout_logprobs": np.float32,
    "policy_versions": np.int32,
}
_FLAGS = {"restart": False, "summary": False, "train": True}
"""Flags of a turn, and what they are in files written before they existed."""
_OLD_TURN = pa.struct(
    [
        *((name, pa.list_(pa.from_numpy_dtype(dtype))) for name, dtype in _ARRAYS.items()),
        *((name, pa.string()) for name in ("text", "action", "observation")),
        *((name, pa.float64()) for name in ("generate_s", "tool_s")),
    ]
)
_TURN = pa.struct([*_OLD_TURN, *(pa.field(name, pa.bool_()) for name in _FLAGS)])
_COLUMNS: dict[str, Any] = {
    "instance_id": pa.string(),
    "sample_index": pa.int64(),
    "policy_name": pa.string(),
    "prompt": pa.string(),
    "patch": pa.string(),
    "stop_reason": pa.string(),
    "seconds": pa.float64(),
    "turns": pa.list_(_TURN),
}
_COUNTS = ("num_turns", "num_tokens", "num_missed_calls", "num_repeated_calls", "num_history_reads", "longest_sample")
DERIVED = {name: pa.int64() for name in _COUNTS}
"""Columns that follow from the turns; summaries of the history are no turns, but their tokens count. A missed call is a turn
without a tool call, a repeated call one with several, a history read one that tries to look at the repository's history.
`longest_sample` counts tokens."""
_CALL_OPENS = re.compile(r"<function=[ \t\r\n\f]*[A-Za-z_]")


class TrajectoryFileError(ValueError):
    """A trajectory file that is damaged or holds something else; one line that names the file."""


def write_trajectories(path: Path, scored: Sequence[tuple[Trajectory, Mapping[str, Scalar]]]) -> None:
    """Write trajectories and their extra columns (say resolved, reward, train, report_text); replaces the file at once.

    Every trajectory has the same extra columns, each all bool, all number or all str, else ValueError. Numbers are stored
    as float64.
    """
    extra = _extra_types([columns for _, columns in scored])
    schema = pa.schema([*_COLUMNS.items(), *DERIVED.items(), *extra.items()])
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for start in range(0, len(scored), ROWS_PER_GROUP):
                writer.write_table(_table(scored[start : start + ROWS_PER_GROUP], schema, list(extra)))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_trajectories(path: Path) -> Iterator[tuple[Trajectory, dict[str, Scalar]]]:
    """The trajectories of a file with their extra columns, in the order written, a row group at a time.

    Raises FileNotFoundError, and TrajectoryFileError (a ValueError that names the file) when it is no such file.
    """
    with open_trajectory_file(path) as file:
        try:
            for index in range(file.num_row_groups):
                yield from _rows(file.read_row_group(index))
        except (pa.ArrowException, OSError, ValueError, TypeError) as error:
            raise broken_file(path, error) from error


def open_trajectory_file(path: Path) -> Any:
    """A pyarrow ParquetFile whose columns have the types of trajectories. Raises as `read_trajectories` does."""
    if not path.is_file():
        raise FileNotFoundError(f"no trajectory file {path}")
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise broken_file(path, error) from error
    for name, expected in _COLUMNS.items():
        if name not in schema.names:
            raise TrajectoryFileError(f"{path} is no trajectory file: it has no column {name}")
        if schema.field(name).type not in (expected, pa.list_(_OLD_TURN) if name == "turns" else expected):
            found = str(schema.field(name).type)[:60]
            raise TrajectoryFileError(f"{path} is no trajectory file: column {name} holds {found}, not {str(expected)[:60]}")
    return file


def broken_file(path: Path, error: Exception) -> TrajectoryFileError:
    """What went wrong in reading `path`, as one line."""
    if isinstance(error, TrajectoryFileError):
        return error
    return TrajectoryFileError(f"cannot read trajectories from {path}: {' '.join(str(error).split())[:200]}")


def derived_counts(num_tokens: int, longest_sample: int, texts: Sequence[str], actions: Sequence[str]) -> dict[str, int]:
    r"""The `DERIVED` columns of one trajectory, from the texts and actions of its acting turns.

    >>> derived_counts(7, 5, ["look", "<function=submit>\n</function>"], ["", "<function=submit>\n</function>"])
    {'num_turns': 2, 'num_tokens': 7, 'num_missed_calls': 1, 'num_repeated_calls': 0, 'num_history_reads': 0, 'longest_sample': 5}
    """
    return {
        "num_turns": len(actions),
        "num_tokens": num_tokens,
        "num_missed_calls": sum(not action for action in actions),
        "num_repeated_calls": sum(_calls_again(text) for text in texts),
        "num_history_reads": num_history_reads(actions),
        "longest_sample": longest_sample,
    }


def _calls_again(text: str) -> bool:
    end = text.find("</function>")
    return end >= 0 and _CALL_OPENS.search(text, end) is not None


def _extra_types(rows: Sequence[Mapping[str, Scalar]]) -> dict[str, Any]:
    """Arrow type of every extra column."""
    names = list(rows[0]) if rows else []
    if any(set(row) != set(names) for row in rows):
        raise ValueError(f"trajectories with different extra columns in one file; the first has {names}")
    clash = [name for name in names if name in _COLUMNS or name in DERIVED]
    if clash:
        raise ValueError(f"extra column {clash[0]!r} is a field of the trajectory itself")
    types: dict[str, Any] = {}
    for name in names:
        kinds = {"number" if type(row[name]) in (int, float) else type(row[name]).__name__ for row in rows}
        if kinds not in ({"bool"}, {"number"}, {"str"}):
            raise ValueError(f"extra column {name!r} must be all bool, all numbers or all str, not {sorted(kinds)}")
        types[name] = {"bool": pa.bool_(), "number": pa.float64(), "str": pa.string()}[kinds.pop()]
    return types


def _table(scored: Sequence[tuple[Trajectory, Mapping[str, Scalar]]], schema: Any, extra: list[str]) -> Any:
    trajectories = [trajectory for trajectory, _ in scored]
    turns = [turn for trajectory in trajectories for turn in trajectory.turns]
    fields = [_nested([np.asarray(getattr(turn, name), dtype) for turn in turns], dtype) for name, dtype in _ARRAYS.items()]
    plain = [field.name for field in _TURN][len(_ARRAYS) :]
    fields += [pa.array([getattr(turn, name) for turn in turns], type=_TURN.field(name).type) for name in plain]
    structs = pa.StructArray.from_arrays(fields, fields=list(_TURN))
    columns: dict[str, Any] = {
        "patch": [trajectory.patch.diff for trajectory in trajectories],
        "stop_reason": [trajectory.stop_reason.value for trajectory in trajectories],
        "turns": pa.ListArray.from_arrays(_offsets([len(trajectory.turns) for trajectory in trajectories]), structs),
    }
    for name in ("instance_id", "sample_index", "policy_name", "prompt", "seconds"):
        columns[name] = [getattr(trajectory, name) for trajectory in trajectories]
    counts = [
        derived_counts(
            one.num_tokens,
            one.longest_sample,
            [turn.text for turn in one.turns if not turn.summary],
            [turn.action for turn in one.turns if not turn.summary],
        )
        for one in trajectories
    ]
    for name in DERIVED:
        columns[name] = [row[name] for row in counts]
    for name in extra:
        columns[name] = [row[name] for _, row in scored]
    return pa.table([pa.array(columns[field.name], type=field.type) for field in schema], schema=schema)


def _nested(arrays: list[Any], dtype: Any) -> Any:
    """A list column from numpy arrays. NaN stays NaN (pyarrow turns NaN into null only when asked to)."""
    values = np.concatenate(arrays) if arrays else np.zeros(0, dtype)
    return pa.ListArray.from_arrays(_offsets([len(array) for array in arrays]), pa.array(values))


def _offsets(lengths: list[int]) -> Any:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def _rows(table: Any) -> Iterator[tuple[Trajectory, dict[str, Scalar]]]:
    """The trajectories of one row group."""
    nested = table["turns"].combine_chunks()
    structs = nested.flatten()
    arrays = {name: _unnest(structs.field(name)) for name in _ARRAYS}
    there = {field.name for field in structs.type}
    texts: dict[str, list[Any]] = {
        name: structs.field(name).to_pylist() if name in there else [_FLAGS[name]] * len(structs)
        for name in [field.name for field in _TURN][len(_ARRAYS) :]
    }
    plain = table.drop_columns(["turns"]).to_pylist()
    first = 0
    for row, length in zip(plain, nested.value_lengths().to_pylist(), strict=True):
        turns = tuple(
            Turn(**{name: column[index] for columns in (arrays, texts) for name, column in columns.items()})
            for index in range(first, first + length)
        )
        first += length
        extra = {name: value for name, value in row.items() if name not in _COLUMNS and name not in DERIVED}
        yield (
            Trajectory(
                instance_id=row["instance_id"],
                sample_index=row["sample_index"],
                policy_name=row["policy_name"],
                prompt=row["prompt"],
                turns=turns,
                patch=Patch(row["patch"]),
                stop_reason=StopReason(row["stop_reason"]),
                seconds=row["seconds"],
            ),
            extra,
        )


def _unnest(column: Any) -> list[Any]:
    """The numpy arrays of a list column; copies, so that one kept turn does not hold its whole row group."""
    values = column.flatten().to_numpy(zero_copy_only=False)
    ends = np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False), dtype=np.int64)
    return [part.copy() for part in np.split(values, ends[:-1])] if len(ends) else []
