"""pytest's verbose progress lines (`-v`, as SWE-smith runs it): `path::test[params] STATUS   [ 50%]` per test."""

import re

from verifier.log_parsers.pytest_log import ANSI, STATUS_OF
from verifier.test_report import TestStatus, worst

PROGRESS_LINE = re.compile(rf"(\S+?::.*?) ({'|'.join(STATUS_OF)})(?: \(.*\))?(?:\s+\[ *\d+%\])?")


def parse_log_pytest_verbose(log: str) -> dict[str, TestStatus]:
    """Status per test id; a test named several times has its worst status.

    >>> parse_log_pytest_verbose("a.py::x PASSED   [ 50%]\\na.py::y SKIPPED (no net)  [100%]\\n")
    {'a.py::x': <TestStatus.PASSED: 'passed'>, 'a.py::y': <TestStatus.SKIPPED: 'skipped'>}
    """
    status: dict[str, TestStatus] = {}
    for line in ANSI.sub("", log).splitlines():
        match = PROGRESS_LINE.fullmatch(line.rstrip())
        if match is not None:
            found = STATUS_OF[match[2]]
            status[match[1]] = worst(status[match[1]], found) if match[1] in status else found
    return status
