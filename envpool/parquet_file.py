"""Reading and writing one Parquet file of flat rows, so that a crash never leaves half a file."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


class ParquetFileError(ValueError):
    """A Parquet file that is missing, damaged or has other columns than expected; one line that names the file."""


def write_parquet(path: Path, rows: Iterable[dict[str, Any]], schema: Any, metadata: dict[str, str] | None = None) -> None:
    """Write `rows` (keys as in the pyarrow `schema`), zstd-compressed; the old file stays until the new one is whole."""
    table = pa.Table.from_pylist(list(rows), schema=schema.with_metadata(metadata or {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        pq.write_table(table, partial, compression="zstd")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_parquet(path: Path, schema: Any | None = None) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows and metadata of a Parquet file. With `schema`, columns and types must be exactly those. Raises ParquetFileError."""
    if not path.is_file():
        raise ParquetFileError(f"{path}: no such file")
    try:
        table = pq.ParquetFile(path).read()
        if schema is None:
            return table.to_pylist(), _decoded(table.schema.metadata)
        missing = [name for name in schema.names if name not in table.schema.names]
        if missing:
            raise ParquetFileError(f"{path}: column {missing[0]} is missing")
        rows = table.select(schema.names).cast(schema).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise ParquetFileError(f"{path}: not a readable Parquet file ({_one_line(error)})") from error
    return rows, _decoded(table.schema.metadata)


def _decoded(metadata: dict[bytes, bytes] | None) -> dict[str, str]:
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in (metadata or {}).items()}


def _one_line(error: BaseException) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
