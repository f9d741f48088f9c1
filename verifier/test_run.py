"""What came back from one run of the hidden tests, before anybody judged it."""

from dataclasses import dataclass

TIMED_OUT = "hidden tests timed out"
"""Last line of the log of a run that was cut off by its deadline."""
TIMEOUT_EXIT_CODE = 124


@dataclass(frozen=True)
class TestRun:
    """`log` is the output of the script alone and `exit_code` the one that the sandbox reports (124: the deadline passed).

    `junit_xml` is pytest's own report, "" when none was asked for or none was written; `reward_text` is what the script left
    as its verdict (tasks with the rule `reward_file`). `log_cut` says that the middle of a huge log is missing. `tampered`
    names files of the hidden tests that the run itself changed.
    """

    __test__ = False
    log: str
    exit_code: int
    junit_xml: str = ""
    reward_text: str = ""
    log_cut: bool = False
    tampered: tuple[str, ...] = ()

    @property
    def timed_out(self) -> bool:
        return self.exit_code == TIMEOUT_EXIT_CODE


def ended_run(log: str, exit_code: int, timed_out: bool, **more: object) -> TestRun:
    """A run as a sandbox reports it; a timed-out one has `TIMED_OUT` as its log's last line.

    >>> ended_run("one\\n", 0, True).log
    'one\\nhidden tests timed out'
    """
    if timed_out:
        return TestRun(f"{log.rstrip()}\n{TIMED_OUT}", TIMEOUT_EXIT_CODE, **more)  # type: ignore[arg-type]
    return TestRun(log, exit_code, **more)  # type: ignore[arg-type]
