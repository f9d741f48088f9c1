"""pytest's JUnit XML (`--junitxml`): a second witness beside the log, written when the session ends.

A log is whatever somebody printed. The report is written by pytest after the last test, at a path that the grader draws per
run: code that prints result lines and leaves with `os._exit(0)` has printed a log and written no report.
"""

import re
from xml.etree import ElementTree

from verifier.test_report import TestStatus, worst

MAX_BYTES = 64 * 1024 * 1024
_FORBIDDEN_IN_XML = re.compile("[^\t\n\r\x20-\x7e\x80-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Case = tuple[str, str]
"""A testcase element's `classname` and `name`."""


class JUnitError(ValueError):
    """Not a complete JUnit report of pytest."""


def parse_junit(xml: str) -> dict[Case, TestStatus]:
    """Status per testcase; one that appears twice (failed, then an error in its teardown) has its worst status.

    Raises JUnitError: cut off, no XML, with a document type (entities could blow it up), or not made by pytest.
    """
    if "<!DOCTYPE" in xml[:4096] or "<!ENTITY" in xml:
        raise JUnitError("has a document type")
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise JUnitError(f"is not XML ({error})") from error
    if root.tag not in ("testsuites", "testsuite"):
        raise JUnitError(f"has the root element {root.tag[:40]}")
    status: dict[Case, TestStatus] = {}
    for case in root.iter("testcase"):
        key = (case.get("classname", ""), case.get("name", ""))
        found = _status(case)
        status[key] = worst(status[key], found) if key in status else found
    return status


def case_of(test_id: str) -> Case:
    """The testcase that pytest writes for a node id.

    >>> case_of("tests/test_a.py::TestX::test_y[a/b.py::c]")
    ('tests.test_a.TestX', 'test_y[a/b.py::c]')
    """
    address, bracket, parameters = test_id.partition("[")
    path, *names = address.split("::")
    parts = [re.sub(r"\.py$", "", path.replace("/", ".")), *names]
    return ".".join(parts[:-1]), _escaped(parts[-1] + bracket + parameters)


def _status(case: ElementTree.Element) -> TestStatus:
    found = TestStatus.PASSED
    for child in case:
        if child.tag == "failure":
            found = worst(found, TestStatus.FAILED)
        elif child.tag == "error":
            found = worst(found, TestStatus.ERROR)
        elif child.tag == "skipped":
            xfail = child.get("type") == "pytest.xfail"
            found = worst(found, TestStatus.XFAIL if xfail else TestStatus.SKIPPED)
    return found


def _escaped(name: str) -> str:
    """Characters that XML cannot hold, as pytest writes them: `#x` and two or four hexadecimal digits."""

    def escaped(match: re.Match[str]) -> str:
        code = ord(match[0])
        return f"#x{code:02X}" if code <= 0xFF else f"#x{code:04X}"

    return _FORBIDDEN_IN_XML.sub(escaped, name)
