"""Grading recorded logs again: what a change of grader, parser or rule would have decided, without running a test."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envpool.dataset_rows.dataset_row import RowError, mapping, string_list, text
from envpool.dataset_rows.row_file import read_rows
from envpool.oracle import Oracle
from verifier.grading import grade_run
from verifier.log_parsers import LOG_PARSERS, log_parser
from verifier.log_parsers.swebench_log import LogParserMissingError
from verifier.resolution import status_of
from verifier.test_report import TestReport, TestStatus
from verifier.test_run import TestRun

MAX_LOG_BYTES = 64 * 1024 * 1024
UNKNOWN_EXIT_CODE = 0


class RegradeError(ValueError):
    """A recorded log, report or trajectory that cannot be read; one line."""


@dataclass(frozen=True)
class Regraded:
    """One recorded run: what was `recorded` then and what our grader says (`report`)."""

    instance_id: str
    recorded: bool
    report: TestReport

    @property
    def agrees(self) -> bool:
        return self.recorded == self.report.resolved

    def as_row(self) -> dict[str, Any]:
        """The line that `swe-master grade --json` prints."""
        counts = {kind.value: 0 for kind in TestStatus}
        for status in self.report.status.values():
            counts[status.value] += 1
        return {
            "instance_id": self.instance_id,
            "recorded": self.recorded,
            "resolved": self.report.resolved,
            "tests": {name: count for name, count in counts.items() if count},
            "notes": list(self.report.notes),
            "grader": self.report.grader,
        }


def regrade_trajectories(path: Path) -> Iterator[Regraded | RowError]:
    """Every trajectory of a file in R2E-Gym's format (JSONL; `ds` is the dataset row, `test_output` the log, `reward` 0 or 1).

    A row that lacks one of these comes as a RowError in its place. Raises RowFileError.
    """
    for position, row in read_rows(path):
        if isinstance(row, RowError):
            yield row
            continue
        try:
            yield regrade_trajectory(row)
        except RowError as error:
            yield RowError(f"at position {position}", error.field, error.reason) if error.row_id == "?" else error


def regrade_trajectory(row: dict[str, Any]) -> Regraded:
    """One recorded trajectory. Raises RowError."""
    task = mapping(row, "ds")
    instance_id = text(task, "instance_id")
    named = {"instance_id": instance_id, **row}
    config = mapping(task, "install_config") if task.get("install_config") else task
    reward = row.get("reward")
    if isinstance(reward, bool) or not isinstance(reward, int | float):
        raise RowError(instance_id, "reward", "is not a number")
    parser = text({"instance_id": instance_id, **config}, "log_parser")
    oracle = _oracle(instance_id, string_list(task, "FAIL_TO_PASS"), string_list(task, "PASS_TO_PASS"), parser)
    try:
        log_parser(parser)
    except LogParserMissingError as error:
        raise RowError(instance_id, "log_parser", str(error)) from error
    report = grade_run(oracle, TestRun(text(named, "test_output", default=""), UNKNOWN_EXIT_CODE))
    return Regraded(instance_id, float(reward) >= 1.0, report)


def regrade_log(log: Path, report: Path, parser: str = "") -> Regraded:
    """A log with its recorded report: SWE-smith's (`resolved`, `tests_status`), or swebench's (the same under the instance
    id). Without a `parser`, the one of ours that finds most of the report's tests. Raises RegradeError.
    """
    recorded = _read_report(report)
    instance_id = str(recorded.get("instance_id") or log.parent.name)
    tests = {kind: _listed(recorded, kind, report) for kind in ("FAIL_TO_PASS", "PASS_TO_PASS")}
    written = read_log(log)
    names = (*tests["FAIL_TO_PASS"], *tests["PASS_TO_PASS"])
    try:
        parser = parser or max(LOG_PARSERS, key=lambda name: _num_found(name, written, names))
        graded = grade_run(_oracle(instance_id, tests["FAIL_TO_PASS"], tests["PASS_TO_PASS"], parser), TestRun(written, 0))
    except LogParserMissingError as error:
        raise RegradeError(str(error)) from error
    return Regraded(instance_id, bool(recorded.get("resolved")), graded)


def read_log(path: Path) -> str:
    """A log's text; of a larger one the last 64 MiB, where runners sum up. Bytes that are no UTF-8 are replaced."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - MAX_LOG_BYTES))
            return file.read(MAX_LOG_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise RegradeError(f"{path}: cannot be read ({error.strerror or error})") from error


def _oracle(instance_id: str, fail_to_pass: tuple[str, ...], pass_to_pass: tuple[str, ...], parser: str) -> Oracle:
    return Oracle(instance_id, "", "", fail_to_pass, pass_to_pass, "", parser, 1.0)


def _num_found(parser: str, log: str, names: tuple[str, ...]) -> int:
    parsed = log_parser(parser)(log)
    return sum(status_of(name, parsed) is not TestStatus.MISSING for name in names)


def _read_report(path: Path) -> dict[str, Any]:
    try:
        report = json.loads(path.read_bytes())
    except OSError as error:
        raise RegradeError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise RegradeError(f"{path}: is not valid JSON") from error
    if isinstance(report, dict) and len(report) == 1 and "tests_status" not in report:
        [(instance_id, inner)] = report.items()
        report = {**inner, "instance_id": instance_id} if isinstance(inner, dict) else {}
    if not isinstance(report, dict) or not isinstance(report.get("tests_status"), dict):
        raise RegradeError(f"{path}: has no tests_status; expected a report of SWE-smith or swebench with the tests' names")
    return report


def _listed(report: dict[str, Any], kind: str, path: Path) -> tuple[str, ...]:
    sides = report["tests_status"].get(kind)
    if not isinstance(sides, dict) or not all(isinstance(names, list) for names in sides.values()):
        raise RegradeError(f"{path}: tests_status.{kind} has no lists of success and failure")
    return tuple(str(name) for names in sides.values() for name in names)
