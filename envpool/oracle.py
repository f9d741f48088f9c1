"""The answer to a task: reference patch and hidden tests. Agent-side code and selection must not import this module."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HiddenFile:
    """A file that enters a sandbox for grading only. `path` is absolute or relative to the workdir."""

    path: str
    data: bytes
    executable: bool


@dataclass(frozen=True)
class Oracle:
    """What decides whether a patch resolves an issue (fields as in SWE-bench).

    `test_patch` is a unified diff that adds or changes the hidden tests; `eval_script` is a POSIX shell script, run in the
    workdir, that runs them and prints a log which the parser named `log_parser` reads.

    `hidden_files` are put in before the script runs (tests that are no diff of the repository). `junit` says that the script
    starts pytest in a way that heeds PYTEST_ADDOPTS, so that the grader can ask for a JUnit report and believe nothing
    without it. `resolution` names the rule that makes a verdict of statuses, one of `verifier.resolution.RESOLUTIONS`;
    `expected_status` is what the rule `exact_map` compares with: (test, status word) of every test.
    """

    instance_id: str
    gold_patch: str
    test_patch: str
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    eval_script: str
    log_parser: str
    timeout_s: float
    hidden_files: tuple[HiddenFile, ...] = ()
    junit: bool = False
    resolution: str = "swe_bench"
    expected_status: tuple[tuple[str, str], ...] = ()
