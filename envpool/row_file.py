"""Reading rows out of JSON, JSONL and Parquet files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envpool.dataset_row import RowError
from envpool.parquet_file import ParquetFileError, read_parquet


class RowFileError(ValueError):
    """A file no rows can be read from: missing, truncated, of an unknown format; one line."""


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    """Rows of a `.json` (a list of objects), `.jsonl` or `.parquet` file with their positions (from 0; lines from 1 in JSONL).

    A line or item that is no object comes as a RowError in place of the row, and reading goes on. Raises RowFileError.
    """
    readers = {".json": _json_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    reader = readers.get(path.suffix.lower())
    if not path.is_file():
        raise RowFileError(f"{path}: no such file")
    if reader is None:
        raise RowFileError(f"{path}: unknown format {path.suffix or '(no suffix)'}; expected .json, .jsonl or .parquet")
    yield from reader(path)


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
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


def _jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
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


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any] | RowError]]:
    try:
        rows, _ = read_parquet(path)
    except ParquetFileError as error:
        raise RowFileError(str(error)) from error
    yield from enumerate(rows)


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
