"""pytest's short test summary (`-rA`): one line `STATUS path::test[params] - message` per test."""

import re

from verifier.test_report import TestStatus, worst

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
STATUS_OF = {
    "PASSED": TestStatus.PASSED,
    "FAILED": TestStatus.FAILED,
    "ERROR": TestStatus.ERROR,
    "SKIPPED": TestStatus.SKIPPED,
    "XFAIL": TestStatus.XFAIL,
    "XPASS": TestStatus.PASSED,
}
SUMMARY_LINE = re.compile(rf"({'|'.join(STATUS_OF)})[ \t]+(\S.*)")
FOLDED_SKIP = re.compile(r"\[\d+\] (\S+?):(?: |$)")


def parse_log_pytest(log: str) -> dict[str, TestStatus]:
    """Status per test id of every summary line in the log.

    >>> parse_log_pytest("PASSED a.py::x\\nFAILED a.py::y[1 2] - assert 1 == 2\\n")
    {'a.py::x': <TestStatus.PASSED: 'passed'>, 'a.py::y[1 2]': <TestStatus.FAILED: 'failed'>}

    Ids keep their blanks; the message after ` - ` is cut. A test named several times has its worst status: a line printed by
    the code under test cannot cover the failure that pytest reports. Folded skips (`SKIPPED [2] a.py:7: why`) name a line
    and no test; they are kept under `a.py:7`.
    """
    status: dict[str, TestStatus] = {}
    for line in ANSI.sub("", log).splitlines():
        match = SUMMARY_LINE.fullmatch(line.rstrip())
        if match is None:
            continue
        found = STATUS_OF[match[1]]
        test = _test_id(match[1], match[2])
        if test:
            status[test] = worst(status[test], found) if test in status else found
    return status


def _test_id(word: str, rest: str) -> str:
    """The id at the start of a summary line's rest.

    >>> _test_id("FAILED", "a.py::t[x - y] - boom")
    'a.py::t[x - y]'
    """
    folded = FOLDED_SKIP.match(rest) if word == "SKIPPED" else None
    if folded is not None:
        return folded[1]
    if word == "PASSED":  # no message follows, and parameters may hold " - "
        return rest
    bracket, dash = rest.find("["), rest.find(" - ")
    if 0 <= bracket < dash:
        end = rest.find("] - ", bracket)
        return rest[: end + 1] if end >= 0 else (rest if rest.endswith("]") else rest[:dash])
    return rest[:dash] if dash >= 0 else rest
