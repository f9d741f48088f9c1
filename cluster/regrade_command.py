"""What `swe-master grade` prints: recorded runs graded again."""

from collections.abc import Iterable
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from envpool.dataset_rows.dataset_row import RowError
from verifier.regrade import Regraded, regrade_log, regrade_trajectories


def print_regraded(trajectories: Path | None, log: Path | None, report: Path | None, parser: str, as_json: bool) -> int:
    """Grade a file of trajectories, or one log with its report. Returns the exit code: 1 when a verdict differs from the
    recorded one or a row is broken. Raises RowFileError, RegradeError."""
    if trajectories is not None:
        results: Iterable[Regraded | RowError] = regrade_trajectories(trajectories)
    else:
        assert log is not None
        assert report is not None
        results = [regrade_log(log, report, parser)]
    return print_results(results, as_json)


def print_results(results: Iterable[Regraded | RowError], as_json: bool) -> int:
    """One JSON object per line, or a table."""
    table = Table("instance", "recorded", "resolved", "tests", "notes")
    num_agree = num_differ = num_broken = 0
    for result in results:
        if isinstance(result, RowError):
            num_broken += 1
            Console(stderr=True).print(f"left out: {result}", markup=False)
            continue
        num_agree += result.agrees
        num_differ += not result.agrees
        row = result.as_row()
        if as_json:
            print(orjson.dumps(row).decode(), flush=True)
        tests = ", ".join(f"{count} {name}" for name, count in row["tests"].items())
        style = None if result.agrees else "red"
        table.add_row(
            result.instance_id, *map(str, (result.recorded, result.report.resolved)), tests, "; ".join(row["notes"]), style=style
        )
    if not as_json:
        Console().print(table)
        print(f"{num_agree} as recorded, {num_differ} different, {num_broken} broken rows left out")
    return int(bool(num_differ or num_broken))
