"""Reading and writing one Parquet file of flat rows, in bounded memory, so that a crash never leaves half a file."""

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 256
"""Rows written in one row group, and read at a time: what is in memory at once."""


class ParquetFileError(ValueError):
    """A Parquet file that is missing, damaged or has other columns than expected; one line that names the file."""


def write_parquet(path: Path, rows: Iterable[dict[str, Any]], schema: Any, metadata: dict[str, str] | None = None) -> None:
    """Write `rows` (keys as in the pyarrow `schema`), zstd-compressed, a row group at a time; `rows` may be a generator.

    The old file stays until the new one is whole; when `rows` raises, it stays for good.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    schema = schema.with_metadata(metadata or {})
    rows = iter(rows)
    try:
        with pq.ParquetWriter(partial, schema, compression="zstd", write_page_checksum=True) as writer:
            while chunk := list(islice(rows, ROW_GROUP_ROWS)):
                writer.write_table(pa.Table.from_pylist(chunk, schema=schema))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_parquet(path: Path, schema: Any | None = None) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows and metadata of a Parquet file. With `schema`, columns and types must be exactly those. Raises ParquetFileError."""
    file = _open(path)
    with file:
        rows = [row for batch in _batches(path, file, schema) for row in _to_rows(path, batch)]
        return rows, _decoded(file.schema_arrow.metadata)


def iter_parquet(path: Path, schema: Any | None = None) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file one after another, a batch in memory at a time. Raises ParquetFileError where reading fails:
    rows before the damage have been given by then."""
    for batch in iter_parquet_batches(path, schema):
        yield from _to_rows(path, batch)


def iter_parquet_batches(path: Path, schema: Any | None = None) -> Iterator[Any]:
    """The same as pyarrow record batches of at most ROW_GROUP_ROWS rows."""
    with _open(path) as file:
        yield from _batches(path, file, schema)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise ParquetFileError(f"{path}: no such file")
    try:
        return pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise ParquetFileError(f"{path}: not a readable Parquet file ({_one_line(error)})") from error


def _batches(path: Path, file: Any, schema: Any | None) -> Iterator[Any]:
    names = None if schema is None else schema.names
    missing = [name for name in names or () if name not in file.schema_arrow.names]
    if missing:
        raise ParquetFileError(f"{path}: column {missing[0]} is missing")
    try:
        for batch in file.iter_batches(batch_size=ROW_GROUP_ROWS, columns=names):
            yield batch if schema is None else batch.select(names).cast(schema)
    except (pa.ArrowException, OSError) as error:
        raise ParquetFileError(f"{path}: not a readable Parquet file ({_one_line(error)})") from error


def _to_rows(path: Path, batch: Any) -> list[dict[str, Any]]:
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except ValueError as error:  # text that is not UTF-8
        raise ParquetFileError(f"{path}: holds a value that cannot be read ({_one_line(error)})") from error
    return rows


def _decoded(metadata: dict[bytes, bytes] | None) -> dict[str, str]:
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in (metadata or {}).items()}


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
