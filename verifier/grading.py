"""From a test log to a verdict, as SWE-bench decides it. Pure: no sandbox, no clock."""

from envpool.oracle import Oracle
from verifier.log_parsers import log_parser
from verifier.test_report import TestReport, TestStatus, worst

EXIT_CODE_PARSER = "exit_code"
"""Name of the parser of tasks whose script says pass or fail by its exit code alone; every listed test shares that status."""

TIMEOUT_EXIT_CODE = 124
TIMED_OUT = "hidden tests timed out"
"""Last line of the log of a run that was cut off by its deadline."""
F2P_PASSES = frozenset({TestStatus.PASSED})
P2P_PASSES = frozenset({TestStatus.PASSED, TestStatus.XFAIL, TestStatus.SKIPPED})


def grade_log(oracle: Oracle, log: str, exit_code: int, applied: bool) -> TestReport:
    """The report of one run of the hidden tests.

    Resolved needs: the patch applied, the run not timed out (exit code 124), every FAIL_TO_PASS test PASSED, every
    PASS_TO_PASS test PASSED, XFAIL or SKIPPED (swebench 5: a skipped F2P fails, a skipped P2P is kept), and no unexplained
    exit code (see `exit_code_is_explained`). Stricter than swebench 5 in one point: an F2P test that XFAILs counts as passed
    there and as failed here, since a patch can mark tests as expected to fail from a conftest. A test that the log does not
    name is MISSING and fails. A task without F2P tests is never resolved. Raises LogParserMissingError.
    """
    tests = (*oracle.fail_to_pass, *oracle.pass_to_pass)
    if not applied:
        return TestReport(oracle.instance_id, dict.fromkeys(tests, TestStatus.MISSING), False, False, exit_code, log)
    if oracle.log_parser == EXIT_CODE_PARSER:
        parsed = dict.fromkeys(tests, TestStatus.PASSED if exit_code == 0 else TestStatus.FAILED)
    else:
        parsed = log_parser(oracle.log_parser)(log)
    by_first_word = _by_first_word(parsed)
    status = {test: parsed.get(test, by_first_word.get(test, TestStatus.MISSING)) for test in tests}
    resolved = (
        bool(oracle.fail_to_pass)
        and all(status[test] in F2P_PASSES for test in oracle.fail_to_pass)
        and all(status[test] in P2P_PASSES for test in oracle.pass_to_pass)
        and exit_code_is_explained(oracle, parsed, exit_code)
    )
    return TestReport(oracle.instance_id, status, resolved, True, exit_code, log)


def exit_code_is_explained(oracle: Oracle, parsed: dict[str, TestStatus], exit_code: int) -> bool:
    """False when the script failed although no test in its log did: it crashed, or its log is not to be believed.

    Tests outside the two lists may fail, so a non-zero code with a failed test somewhere is ordinary. Scripts that end with a
    git command (SWE-bench's restore the test files last) return git's code, which says nothing about the tests.
    """
    if exit_code == TIMEOUT_EXIT_CODE:
        return False
    lines = oracle.eval_script.strip().splitlines()
    if exit_code == 0 or (lines and lines[-1].lstrip().startswith("git ")):
        return True
    return any(found in (TestStatus.FAILED, TestStatus.ERROR) for found in parsed.values())


def ungraded_report(oracle: Oracle, why: str) -> TestReport:
    """The report of a patch that no test was run for (empty, or it does not apply): not resolved, every test MISSING."""
    return grade_log(oracle, why, exit_code=1, applied=False)


def _by_first_word(parsed: dict[str, TestStatus]) -> dict[str, TestStatus]:
    """Statuses under ids cut at the first blank, the worst of those that collide.

    Datasets built with swebench's parser list parametrised ids cut there: `t.py::f[a b]` appears as `t.py::f[a`.
    """
    cut: dict[str, TestStatus] = {}
    for test, found in parsed.items():
        words = test.split()
        if len(words) > 1:
            cut[words[0]] = worst(cut[words[0]], found) if words[0] in cut else found
    return cut
