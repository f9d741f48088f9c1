"""Compiling datasets once into a file of prepared tasks, with an account of every row that is not in it."""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from envpool.curation.heldout_split import Clash, HeldoutSet, NearDuplicate
from envpool.curation.issue_index import DEFAULT_SIMILARITY, IssueIndex
from envpool.dataset_rows.task_rows import KnowsParser, ParsedRow, RowError, parse_rows
from envpool.task import Task
from envpool.task_sets.task_file import iter_tasks, write_task_file

SPLITS = ("train", "heldout")


@dataclass
class PrepareReport:
    """Counts of one preparation, filled while rows go by: every row is a task, an error or contaminated."""

    rows: int = 0
    tasks: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """Rows that gave no task, by the field at fault."""
    contaminated: list[Clash] = field(default_factory=list)
    """Tasks left out because the held-out set has them, too."""
    duplicates: list[NearDuplicate] = field(default_factory=list)
    """Tasks that stay although an earlier one has nearly their issue text."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "rows": self.rows,
            "tasks": self.tasks,
            "errors": dict(sorted(self.errors.items())),
            "contaminated": [vars(clash) for clash in self.contaminated],
            "duplicates": [vars(duplicate) for duplicate in self.duplicates],
        }


def errors_path(target: Path) -> Path:
    """Where the broken rows of `target` are kept."""
    return target.with_name(f"{target.name}.errors.jsonl")


def prepare_tasks(
    addresses: Iterable[str],
    source: str,
    target: Path,
    *,
    split: str = "train",
    heldout: HeldoutSet | None = None,
    knows_parser: KnowsParser | None = None,
    similarity: float = DEFAULT_SIMILARITY,
    advance: Callable[[], None] = lambda: None,
) -> PrepareReport:
    """Read rows, keep the tasks that may be used, write them to `target` and the broken rows beside it.

    `advance` is called once a row. Both files appear when all rows are read, or not at all; without broken rows there is no
    second file. Memory: a few hundred tasks, and for each issue text its hashes. Raises RowFileError, TaskFileError, and
    ValueError for an unknown source or split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; known: {', '.join(SPLITS)}")
    report = PrepareReport()
    errors, partial = errors_path(target), target.with_name(f".{target.name}.{os.getpid()}.errors")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("w", encoding="utf-8") as file:
            parsed = _counted(parse_rows(addresses, source, knows_parser), report, advance)
            tasks = _kept(_without_errors(parsed, report, file), report, heldout, IssueIndex(similarity))
            write_task_file(target, (replace(task, split=split) for task in tasks))
        if report.errors:
            os.replace(partial, errors)
        else:
            errors.unlink(missing_ok=True)
    finally:
        partial.unlink(missing_ok=True)
    return report


def heldout_set(paths: Iterable[Path], *, repositories: bool, similarity: float) -> HeldoutSet:
    """The problems of prepared files, as what must not be trained on. Raises TaskFileError."""
    problems = (task.problem for path in paths for task in iter_tasks(path))
    return HeldoutSet(problems, repositories=repositories, similarity=similarity)


def _counted(parsed: Iterator[ParsedRow], report: PrepareReport, advance: Callable[[], None]) -> Iterator[ParsedRow]:
    for row in parsed:
        report.rows += 1
        advance()
        yield row


def _without_errors(parsed: Iterator[ParsedRow], report: PrepareReport, file: IO[str]) -> Iterator[Task]:
    for row in parsed:
        if isinstance(row.result, RowError):
            report.errors[row.result.field] += 1
            file.write(_error_line(row, row.result))
        else:
            yield row.result


def _error_line(row: ParsedRow, error: RowError) -> str:
    told = {"input": row.address, "position": row.position, "row_id": error.row_id, "field": error.field, "reason": error.reason}
    try:
        return json.dumps(told | {"row": row.row}, default=repr, skipkeys=True) + "\n"
    except (ValueError, RecursionError):
        return json.dumps(told | {"row": None}) + "\n"


def _kept(tasks: Iterator[Task], report: PrepareReport, heldout: HeldoutSet | None, index: IssueIndex) -> Iterator[Task]:
    for task in tasks:
        clash = heldout.clash(task.problem) if heldout is not None else None
        if clash is not None:
            report.contaminated.append(clash)
            continue
        nearest = index.nearest(task.problem.problem_statement)
        if nearest is not None:
            report.duplicates.append(NearDuplicate(task.instance_id, nearest[0], nearest[1]))
        else:
            index.add(task.instance_id, task.problem.problem_statement)
        report.tasks += 1
        yield task
