"""What the hidden tests said about a patch."""

from dataclasses import dataclass
from enum import Enum

GRADER = "swe-master-grader/1"


class TestStatus(Enum):
    """Status of one hidden test; a test that did not appear in the log is MISSING and counts as failed."""

    __test__ = False
    PASSED = "passed"
    XFAIL = "xfail"  # failed as the test itself expects
    SKIPPED = "skipped"
    MISSING = "missing"
    FAILED = "failed"
    ERROR = "error"


def worst(first: TestStatus, second: TestStatus) -> TestStatus:
    """The worse of two statuses, in the order of the enum: passed < xfail < skipped < missing < failed < error."""
    order = list(TestStatus)
    return max(first, second, key=order.index)


@dataclass(frozen=True)
class TestReport:
    """Status per hidden test (F2P and P2P together); `resolved` is SWE-bench's full resolution."""

    __test__ = False
    instance_id: str
    status: dict[str, TestStatus]
    resolved: bool
    applied: bool
    exit_code: int
    log: str
    grader: str = GRADER
