"""Importing dataset rows as tasks: a broken row is named and counted, the others go on."""

from dataclasses import dataclass, replace
from pathlib import Path

from envpool.dataset_row import RowError, mapping, string_list, text
from envpool.row_file import RowFileError, read_rows
from envpool.task import Task
from envpool.task_sources import TASK_SOURCES

__all__ = ["ImportResult", "RowError", "RowFileError", "import_tasks", "mapping", "read_rows", "string_list", "text"]


@dataclass(frozen=True)
class ImportResult:
    """What came of a file: its tasks in file order, and one error per row that gave none."""

    tasks: tuple[Task, ...]
    errors: tuple[RowError, ...]


def import_tasks(path: Path, source: str) -> ImportResult:
    """Read the rows of `path` with the adapter `source`, a name in TASK_SOURCES.

    Raises RowFileError when the file itself cannot be read, ValueError for an unknown source. Of several rows with one
    instance_id the first counts.
    """
    if source not in TASK_SOURCES:
        raise ValueError(f"unknown task source {source!r}; known: {', '.join(sorted(TASK_SOURCES))}")
    parse_row = TASK_SOURCES[source]
    tasks: dict[str, Task] = {}
    errors: list[RowError] = []
    for position, row in read_rows(path):
        if isinstance(row, RowError):
            errors.append(row)
            continue
        try:
            task = parse_row(row)
        except RowError as error:
            errors.append(_with_position(error, position))
            continue
        if task.instance_id in tasks:
            errors.append(RowError(task.instance_id, "instance_id", "was used by an earlier row; the first counts"))
        else:
            tasks[task.instance_id] = task
    return ImportResult(tuple(replace(task, source=source) for task in tasks.values()), tuple(errors))


def _with_position(error: RowError, position: int) -> RowError:
    return RowError(f"at position {position}", error.field, error.reason) if error.row_id == "?" else error
