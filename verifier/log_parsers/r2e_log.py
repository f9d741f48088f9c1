"""R2E-Gym's log format: the short test summary of pytest, or of tornado's runner, with tests named without their file."""

import re

from verifier.log_parsers.pytest_log import ANSI
from verifier.test_report import TestStatus, worst

_HEADER = re.compile(r".*short test summary info.*")
_END = re.compile(r"=+ .* in \d+(?:\.\d+)?s(?: \(.*\))? =+")
_STATUS = {"PASSED": TestStatus.PASSED, "FAILED": TestStatus.FAILED, "ERROR": TestStatus.ERROR}


def parse_log_r2e(log: str) -> dict[str, TestStatus]:
    """Status per test, named by the `::` parts after the file, joined with dots; "" for an error of a whole file.

    >>> parse_log_r2e("= short test summary info =\\nPASSED r2e_tests/test_1.py::A::x\\nFAILED r2e_tests/test_1.py::y - no\\n")
    {'A.x': <TestStatus.PASSED: 'passed'>, 'y': <TestStatus.FAILED: 'failed'>}

    Only lines that begin with the status count (R2E-Gym's own parser looks for the word anywhere in the line, so that a failure
    whose message says PASSED passes there). Skipped and xfailed tests are left out, as there. Of one name twice in a summary the
    later counts, as in the expected maps, which were made that way; when the log holds several summaries the worst does.
    """
    sections: list[dict[str, TestStatus]] = []
    inside = False
    for line in ANSI.sub("", log).splitlines():
        if _HEADER.fullmatch(line) and not line.startswith(tuple(_STATUS)):
            sections.append({})
            inside = True
        elif _END.fullmatch(line.strip()):
            inside = False
        elif inside and (found := _STATUS.get(line.split(" ", 1)[0])) is not None:
            name = ".".join(line.split("::")[1:])
            sections[-1][name if found is TestStatus.PASSED else name.split(" - ")[0]] = found
    status: dict[str, TestStatus] = {}
    for section in sections:
        for name, found in section.items():
            status[name] = worst(status[name], found) if name in status else found
    return status
