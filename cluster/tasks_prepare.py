"""`swe-master tasks prepare`: datasets compiled once into a file of prepared tasks, and what came of their rows."""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from envpool.curation.issue_index import DEFAULT_SIMILARITY
from envpool.dataset_rows.parser_names import SWEBENCH_PARSERS
from envpool.dataset_rows.task_preparing import PrepareReport, errors_path, heldout_set, prepare_tasks
from verifier.grading import EXIT_CODE_PARSER
from verifier.log_parsers import LOG_PARSERS
from verifier.log_parsers.swebench_log import LogParserMissingError, swebench_parser

LISTED = 10
"""Duplicates and contaminated tasks named in the table; all of them are in the JSON."""


@cache
def knows_parser(name: str) -> bool:
    """True for our log parsers and swebench's; its package is imported only for a name that version 5.0.2 did not have."""
    if name in LOG_PARSERS or name == EXIT_CODE_PARSER or name in SWEBENCH_PARSERS:
        return True
    try:
        swebench_parser(name)
    except LogParserMissingError:
        return False
    return True


def print_preparation(
    inputs: Iterable[str],
    source: str,
    target: Path,
    against: Iterable[Path],
    *,
    keep_repositories: bool,
    split: str,
    as_json: bool,
) -> None:
    """Prepare `inputs` and print the account. Raises ValueError (unknown source, unreadable input or file) and OSError."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description} {task.completed} rows"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=as_json or not console.is_terminal) as progress:
        shown = progress.add_task(f"preparing {target.name}", total=None)
        paths = list(against)
        heldout = heldout_set(paths, repositories=not keep_repositories, similarity=DEFAULT_SIMILARITY) if paths else None
        report = prepare_tasks(
            inputs,
            source,
            target,
            split=split,
            heldout=heldout,
            knows_parser=knows_parser,
            advance=lambda: progress.advance(shown),
        )
    if as_json:
        print(json.dumps(report.as_dict() | {"to": str(target), "split": split, "source": source}))
        return
    for table in preparation_tables(report, target):
        Console().print(table)


def preparation_tables(report: PrepareReport, target: Path) -> list[Table]:
    """The counts, and a table of near-duplicates when there are any."""
    counts = Table(title=f"{target}", title_justify="left")
    counts.add_column("what")
    counts.add_column("rows", justify="right")
    counts.add_row("read", str(report.rows))
    for field, number in sorted(report.errors.items()):
        counts.add_row(f"left out: field {field}", str(number))
    for reason in dict.fromkeys(clash.reason for clash in report.contaminated):
        number = sum(clash.reason == reason for clash in report.contaminated)
        counts.add_row(f"left out: held-out set has the same {reason}", str(number))
    counts.add_row("tasks written", str(report.tasks))
    counts.add_row("of them near-duplicates of an earlier task", str(len(report.duplicates)))
    if report.errors:
        counts.caption = f"the rows with errors are in {errors_path(target)}"
        counts.caption_justify = "left"
    texts = [("left out", clash.instance_id, clash.heldout_id, clash.similarity) for clash in report.contaminated]
    pairs = [pair for pair in texts if pair[3] > 0.0]
    pairs += [("kept", found.instance_id, found.earlier_id, found.similarity) for found in report.duplicates]
    if not pairs:
        return [counts]
    similar = Table(
        title=f"issue texts that are nearly the same ({min(LISTED, len(pairs))} of {len(pairs)})", title_justify="left"
    )
    for name in ("", "task", "has the issue of", "similarity"):
        similar.add_column(name)
    for what, one, other, share in pairs[:LISTED]:
        similar.add_row(what, one, other, f"{share:.2f}")
    return [counts, similar]
