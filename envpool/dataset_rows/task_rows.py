"""Importing dataset rows as tasks: a broken row is named and counted, the others go on."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envpool.dataset_rows.dataset_row import RowError, mapping, string_list, text
from envpool.dataset_rows.row_file import RowFileError, read_input, read_rows
from envpool.task import Task
from envpool.task_sources import TASK_SOURCES

__all__ = [
    "ImportResult",
    "ParsedRow",
    "RowError",
    "RowFileError",
    "import_tasks",
    "mapping",
    "parse_rows",
    "read_rows",
    "string_list",
    "text",
]

KnowsParser = Callable[[str], bool]


@dataclass(frozen=True)
class ParsedRow:
    """What became of one row: its place, the row itself ({} where it was none), and its task or its error."""

    address: str
    position: int
    row: dict[str, Any]
    result: Task | RowError


@dataclass(frozen=True)
class ImportResult:
    """What came of a file: its tasks in file order, and one error per row that gave none."""

    tasks: tuple[Task, ...]
    errors: tuple[RowError, ...]


def import_tasks(path: Path, source: str, knows_parser: KnowsParser | None = None) -> ImportResult:
    """Read the rows of `path` with the adapter `source`, a name in TASK_SOURCES.

    Raises RowFileError when the file itself cannot be read, ValueError for an unknown source. Of several rows with one
    instance_id the first counts.
    """
    results = [parsed.result for parsed in parse_rows([str(path)], source, knows_parser)]
    tasks = tuple(result for result in results if isinstance(result, Task))
    return ImportResult(tasks, tuple(result for result in results if isinstance(result, RowError)))


def parse_rows(addresses: Iterable[str], source: str, knows_parser: KnowsParser | None = None) -> Iterator[ParsedRow]:
    """The rows of several inputs (see `read_input`), each as a task of `source` or as a RowError, one in memory at a time.

    A row whose instance_id an earlier row had is an error; so is one whose log parser `knows_parser` denies, where it is
    given. Raises RowFileError, and ValueError for an unknown source.
    """
    if source not in TASK_SOURCES:
        raise ValueError(f"unknown task source {source!r}; known: {', '.join(sorted(TASK_SOURCES))}")
    seen: set[str] = set()
    for address in addresses:
        for position, row in read_input(address):
            if isinstance(row, RowError):
                yield ParsedRow(address, position, {}, row)
                continue
            result = _parsed(row, position, source, knows_parser)
            if isinstance(result, Task) and result.instance_id in seen:
                result = RowError(result.instance_id, "instance_id", "was used by an earlier row; the first counts")
            elif isinstance(result, Task):
                seen.add(result.instance_id)
            yield ParsedRow(address, position, row, result)


def unwrapped(row: dict[str, Any]) -> dict[str, Any]:
    """The dataset's row inside one of verl's (`prompt`, `reward_model`, `extra_info`); any other row as it is.

    >>> unwrapped({"prompt": [], "extra_info": {"instance_id": "a-1"}})
    {'instance_id': 'a-1'}
    """
    inner = row.get("extra_info")
    return inner if "prompt" in row and isinstance(inner, dict) else row


def _parsed(row: dict[str, Any], position: int, source: str, knows_parser: KnowsParser | None) -> Task | RowError:
    try:
        task = TASK_SOURCES[source](unwrapped(row))
    except RowError as error:
        return RowError(f"at position {position}", error.field, error.reason) if error.row_id == "?" else error
    parser = task.oracle.log_parser
    if knows_parser is not None and not knows_parser(parser):
        return RowError(task.instance_id, "log_parser", f"names a parser that is neither ours nor swebench's: {parser[:80]!r}")
    return replace(task, source=source)
