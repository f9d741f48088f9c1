"""Files of chat samples: JSONL, or Parquet in the shape that `datasets` and TRL load (tools as JSON text, arguments as
Arrow's JSON type, which `datasets` shows as objects). Both directions stream."""

import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from envpool.chat.chat_sample import ChatSample, ChatSampleError
from envpool.chat.chat_sample_row import parse_sample_row, sample_row
from envpool.chat.openhands_sample import as_chat_sample, complaints_about, parse_openhands_row
from envpool.dataset_rows.dataset_row import RowError
from envpool.dataset_rows.row_file import RowFileError, read_rows

SAMPLES_PER_GROUP = 64
"""Samples held at once when writing Parquet; also its row groups."""
FORMATS = (".jsonl", ".parquet")


def _schema(arguments: Any) -> Any:
    function = pa.struct([("name", pa.string()), ("arguments", arguments)])
    call = pa.struct([("type", pa.string()), ("id", pa.string()), ("function", function)])
    texts = [(name, pa.string()) for name in ("role", "content", "name", "tool_call_id")]
    message = pa.struct([*texts[:2], ("tool_calls", pa.list_(call)), *texts[2:]])
    columns = [("tools", pa.string()), ("instance_id", pa.string()), ("metadata", pa.string())]
    return pa.schema([("messages", pa.list_(message)), *columns])


_TEXT_SCHEMA = _schema(pa.string())
SAMPLE_SCHEMA = _schema(pa.json_())


def write_samples(path: Path, samples: Iterable[ChatSample]) -> int:
    """Write samples to a `.jsonl` or `.parquet` file and return how many; the old file stays until the new one is whole.

    Raises RowFileError for another suffix or a folder that cannot be written.
    """
    writers = {".jsonl": _write_jsonl, ".parquet": _write_parquet}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise RowFileError(f"{path}: unknown format {path.suffix or '(no suffix)'}; expected {' or '.join(FORMATS)}")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            count = writer(file, iter(samples))
        os.replace(partial, path)
    except OSError as error:
        raise RowFileError(f"{path}: cannot be written ({error.strerror or error})") from error
    finally:
        partial.unlink(missing_ok=True)
    return count


def read_samples(path: Path) -> Iterator[ChatSample | ChatSampleError]:
    """The samples of a `.jsonl`, `.json` or `.parquet` file: rows with `messages`, or SWE-Master's with `input`.

    A row that is no sample comes as an error that says where and what; reading goes on. Raises RowFileError when the file
    cannot be read on.
    """
    rows = _parquet_rows(path) if path.suffix.lower() == ".parquet" and path.is_file() else read_rows(path)
    for number, row in rows:
        where = f"{path.name}, row {number}"
        if isinstance(row, RowError):
            yield ChatSampleError(f"{path.name}: {row}")
            continue
        try:
            yield _sample(row)
        except ChatSampleError as error:
            yield ChatSampleError(f"{where}: {error}")


def _sample(row: dict[str, Any]) -> ChatSample:
    if "messages" in row:
        return parse_sample_row(row)
    if "input" in row:
        original = parse_openhands_row(row)
        if complaints := complaints_about(original):
            raise ChatSampleError("; ".join(complaints))
        return as_chat_sample(original)
    raise ChatSampleError("has neither messages nor input")


def _write_jsonl(file: IO[bytes], samples: Iterator[ChatSample]) -> int:
    count = 0
    for sample in samples:
        line = json.dumps(sample_row(sample), ensure_ascii=False, allow_nan=False)
        file.write(line.encode("utf-8", "replace") + b"\n")
        count += 1
    return count


def _write_parquet(file: IO[bytes], samples: Iterator[ChatSample]) -> int:
    count = 0
    with pq.ParquetWriter(file, SAMPLE_SCHEMA, compression="zstd") as writer:
        while group := [_flat_row(sample) for sample in islice(samples, SAMPLES_PER_GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, schema=_TEXT_SCHEMA).cast(SAMPLE_SCHEMA))
            count += len(group)
    return count


def _flat_row(sample: ChatSample) -> dict[str, Any]:
    """The row with the values of free shape as JSON text."""
    row = sample_row(sample)
    for message in row["messages"]:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], allow_nan=False)
    return row | {name: json.dumps(row[name], allow_nan=False) for name in ("tools", "metadata")}


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=SAMPLES_PER_GROUP):
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RowFileError(f"{path}: not readable as Parquet after row {number} ({reason}); is it truncated?") from error
