"""Signs in a log that the machine broke, and not the code under test. A suspicion: the grader checks it without the patch."""

import re

from verifier.test_run import TestRun

SIGNS: dict[str, re.Pattern[str]] = {
    "disk full": re.compile(r"No space left on device|Disk quota exceeded"),
    "out of memory": re.compile(r"Cannot allocate memory|OutOfMemoryError|^Killed$", re.MULTILINE),
    "no network": re.compile(r"Could not resolve host|Temporary failure in name resolution|Network is unreachable"),
    "no display": re.compile(r"cannot open display|Missing X server|unable to open X display|Failed to connect to the bus"),
    "no processes left": re.compile(r"fork: (?:retry: )?Resource temporarily unavailable|can't start new thread"),
    "read-only file system": re.compile(r"Read-only file system"),
    "no test runner": re.compile(r"No module named '?pytest'?$|pytest: (?:command )?not found", re.MULTILINE),
}
"""The reasons and patterns follow swebench 5's `infra_failure`, with what a network-less sandbox adds."""
KILLED_EXIT_CODE = 137


def infra_failure(run: TestRun) -> str:
    """The first sign in the log, or `killed` for a script that died of SIGKILL; "" without any.

    >>> infra_failure(TestRun("OSError: [Errno 28] No space left on device", 1))
    'disk full'
    """
    for reason, pattern in SIGNS.items():
        if pattern.search(run.log):
            return reason
    return "killed" if run.exit_code == KILLED_EXIT_CODE else ""
