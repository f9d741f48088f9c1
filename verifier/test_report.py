"""What the hidden tests said about a patch."""

from dataclasses import dataclass
from enum import Enum

GRADER = "swe-master-grader/2"


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
    """Status per hidden test (F2P and P2P together); `resolved` is what the task's rule says.

    `applied` is False when no test was run. `notes` are reasons not to believe the run, `dropped` the parts of the patch that
    were left out (`path: reason`), `grader` names this grader, the rule and the log parser, each with its version.
    """

    __test__ = False
    instance_id: str
    status: dict[str, TestStatus]
    resolved: bool
    applied: bool
    exit_code: int
    log: str
    notes: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    grader: str = GRADER
