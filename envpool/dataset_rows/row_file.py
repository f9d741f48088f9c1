"""Reading rows out of JSON, JSONL and Parquet files, Harbor task directories and datasets of the Hugging Face hub."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envpool.dataset_rows.dataset_row import RowError
from envpool.dataset_rows.harbor_folder import is_harbor, read_harbor
from envpool.dataset_rows.hub_rows import PREFIX, HubRowsError, hub_rows
from envpool.parquet_file import ParquetFileError, iter_parquet_batches

ReadRow = tuple[int, dict[str, Any] | RowError]
"""A row, or the error in its place, with its position."""


class RowFileError(ValueError):
    """An input no rows can be read from: missing, truncated, of an unknown format; one line."""


def read_input(address: str) -> Iterator[ReadRow]:
    """Rows of whatever `address` names: a file or folder of `read_rows`, or `hf:owner/name[:split]`. Raises RowFileError."""
    if not address.startswith(PREFIX):
        yield from read_rows(Path(address))
        return
    try:
        yield from enumerate(hub_rows(address))
    except HubRowsError as error:
        raise RowFileError(str(error)) from error


def read_rows(path: Path) -> Iterator[ReadRow]:
    """Rows of a `.json` (a list of objects), `.jsonl` or `.parquet` file with their positions (from 0; lines from 1 in JSONL),
    or of a Harbor task directory or a folder of them.

    A line or item that is no object comes as a RowError in place of the row, and reading goes on. JSONL and Parquet are
    streamed; JSON is read whole. Raises RowFileError, for a damaged Parquet file when reading comes to the damage.
    """
    readers = {".json": _json_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if path.is_dir():
        if not is_harbor(path):
            raise RowFileError(f"{path}: a folder without Harbor tasks (no task.toml in it or one level below)")
        yield from enumerate(read_harbor(path))
        return
    if not path.is_file():
        raise RowFileError(f"{path}: no such file")
    if reader is None:
        raise RowFileError(f"{path}: unknown format {path.suffix or '(no suffix)'}; expected .json, .jsonl or .parquet")
    yield from reader(path)


def _json_rows(path: Path) -> Iterator[ReadRow]:
    try:
        items = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise RowFileError(f"{path}: not valid JSON at line {error.lineno}: {error.msg} (is the file truncated?)") from error
    except (ValueError, RecursionError, OSError) as error:
        raise RowFileError(f"{path}: not readable as JSON ({_one_line(error)})") from error
    if not isinstance(items, list):
        raise RowFileError(f"{path}: holds one {type(items).__name__}, not a list of rows")
    for index, item in enumerate(items):
        yield index, item if isinstance(item, dict) else RowError(f"number {index}", "(row)", "is not an object")


def _jsonl_rows(path: Path) -> Iterator[ReadRow]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _jsonl_row(number, line)
    except OSError as error:
        raise RowFileError(f"{path}: cannot be read ({_one_line(error)})") from error


def _jsonl_row(number: int, line: bytes) -> dict[str, Any] | RowError:
    try:
        item = json.loads(line)
    except (ValueError, RecursionError):
        return RowError(f"at line {number}", "(row)", "is not valid JSON")
    return item if isinstance(item, dict) else RowError(f"at line {number}", "(row)", "is not an object")


def _parquet_rows(path: Path) -> Iterator[ReadRow]:
    position = 0
    try:
        for batch in iter_parquet_batches(path):
            for row in _batch_rows(batch, position):
                yield position, row
                position += 1
    except ParquetFileError as error:
        raise RowFileError(str(error)) from error


def _batch_rows(batch: Any, first: int) -> list[dict[str, Any] | RowError]:
    """The rows of a batch; a text that is not UTF-8 spoils its own row only."""
    try:
        return list(batch.to_pylist())
    except ValueError:
        return [_parquet_row(batch, index, first + index) for index in range(batch.num_rows)]


def _parquet_row(batch: Any, index: int, position: int) -> dict[str, Any] | RowError:
    try:
        row: dict[str, Any] = batch.slice(index, 1).to_pylist()[0]
    except ValueError:
        return RowError(f"at position {position}", "(row)", "holds text that is not UTF-8, or a value Python cannot hold")
    return row


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
