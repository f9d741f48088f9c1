"""One stored trajectory for the viewer: texts without token arrays, or the tokens, or only the seconds. Reads a row group at
a time and of it only the columns asked for."""

from collections import OrderedDict
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa

from envpool.trajectories.trajectory_store import broken_file, open_trajectory_file

TOKEN_ARRAYS = ("context_ids", "completion_ids", "rollout_logprobs", "policy_versions")
KEPT_ROW_GROUPS = 4
"""Decoded row groups kept, so that the next trajectory of a group opens at once."""


class EpisodeReader:
    """Reads trajectories by file and row. Thread-safe. Raises TrajectoryFileError, FileNotFoundError, IndexError."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._tables: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def texts(self, path: Path, row: int) -> dict[str, Any]:
        """Every stored field but the token arrays, plus `context_tokens` and `completion_tokens` of each turn."""
        table, place = self._row_group(path, row, "texts")
        try:
            episode: dict[str, Any] = table.slice(place, 1).to_pylist()[0]
        except (pa.ArrowException, ValueError) as error:
            raise broken_file(path, error) from error
        for turn in episode["turns"]:
            for name in ("context", "completion"):
                turn[f"{name}_tokens"] = len(turn.pop(f"{name}_ids"))
        return episode

    def tokens(self, path: Path, row: int) -> list[dict[str, Any]]:
        """Per turn the TOKEN_ARRAYS as numpy arrays."""
        table, place = self._row_group(path, row, "tokens")
        turns = table["turns"].slice(place, 1).combine_chunks().flatten()
        return [
            {name: turns.field(name)[number].values.to_numpy(zero_copy_only=False) for name in TOKEN_ARRAYS}
            for number in range(len(turns))
        ]

    def spans(self, path: Path, rows: range) -> list[list[list[float]]]:
        """Per trajectory and turn: [generate_s, tool_s]."""
        found = []
        for row in rows:
            table, place = self._row_group(path, row, "seconds")
            turns = table["turns"].slice(place, 1).combine_chunks().flatten()
            pair = np.stack([turns.field(name).to_numpy(zero_copy_only=False) for name in ("generate_s", "tool_s")], axis=1)
            found.append(np.round(pair, 4).tolist())
        return found

    def _row_group(self, path: Path, row: int, what: str) -> tuple[Any, int]:
        """The decoded row group that holds the row, and the row's place in it."""
        with open_trajectory_file(path) as file:
            status = path.stat()
            index, place = _locate(file.metadata, row, path)
            key = (path, status.st_mtime_ns, status.st_size, index, what)
            with self._lock:
                if key in self._tables:
                    self._tables.move_to_end(key)
                    return self._tables[key], place
            try:
                table = file.read_row_group(index, columns=_columns(file.schema, what))
            except (pa.ArrowException, OSError) as error:
                raise broken_file(path, error) from error
        with self._lock:
            self._tables[key] = table
            while len(self._tables) > KEPT_ROW_GROUPS:
                self._tables.popitem(last=False)
        return table, place


def _locate(metadata: Any, row: int, path: Path) -> tuple[int, int]:
    left = row
    for index in range(metadata.num_row_groups):
        size = metadata.row_group(index).num_rows
        if 0 <= left < size:
            return index, left
        left -= size
    raise IndexError(f"{path} has no row {row}")


def _columns(schema: Any, what: str) -> list[str]:
    """Leaf columns of the Parquet schema that an answer needs; a field of a later version is a text like the others."""
    paths = [schema.column(place).path for place in range(len(schema))]
    if what == "seconds":
        return [path for path in paths if path.endswith((".generate_s", ".tool_s"))]
    arrays = {path: path.split(".")[3] for path in paths if path.count(".") > 3 and path.split(".")[3] in TOKEN_ARRAYS}
    if what == "tokens":
        return list(arrays)
    return [path for path in paths if arrays.get(path, "context_ids") in ("context_ids", "completion_ids")]
