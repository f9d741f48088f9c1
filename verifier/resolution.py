"""The rules that make a verdict of the statuses of tests, by the name a task's oracle carries (`Oracle.resolution`).

Datasets differ in what counts as resolved. To add a rule: a function `(oracle, parsed, run) -> (status per hidden test,
resolved)` and its line in RESOLUTIONS.
"""

import re
from collections.abc import Callable

from envpool.oracle import Oracle
from verifier.log_parsers.swebench_log import status_from_word
from verifier.test_report import TestStatus, worst
from verifier.test_run import TestRun

Parsed = dict[str, TestStatus]
Verdict = tuple[Parsed, bool]

F2P_PASSES = frozenset({TestStatus.PASSED})
P2P_PASSES = frozenset({TestStatus.PASSED, TestStatus.XFAIL, TestStatus.SKIPPED})
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def swe_bench(oracle: Oracle, parsed: Parsed, run: TestRun) -> Verdict:
    """Every FAIL_TO_PASS test PASSED, every PASS_TO_PASS test PASSED, XFAIL or SKIPPED (swebench 5).

    Stricter than swebench 5 in one point: an F2P test that XFAILs counts as passed there and as failed here, since a patch
    can mark tests as expected to fail. A test that the log does not name is MISSING and fails. A task without F2P tests is
    never resolved.
    """
    status = _hidden_status(oracle, parsed)
    return status, (
        bool(oracle.fail_to_pass)
        and all(status[test] in F2P_PASSES for test in oracle.fail_to_pass)
        and all(status[test] in P2P_PASSES for test in oracle.pass_to_pass)
    )


def fail_only(oracle: Oracle, parsed: Parsed, run: TestRun) -> Verdict:
    """For runners that name failures only (swebench's eval_type `fail_only`): no listed test FAILED or is in ERROR, and the
    run left a trace: some test was named, or the script ended with 0."""
    status = {test: parsed.get(test, TestStatus.PASSED) for test in (*oracle.fail_to_pass, *oracle.pass_to_pass)}
    failed = {TestStatus.FAILED, TestStatus.ERROR}
    ran = bool(parsed) or run.exit_code == 0
    return status, bool(oracle.fail_to_pass) and ran and not failed & set(status.values())


def exact_map(oracle: Oracle, parsed: Parsed, run: TestRun) -> Verdict:
    """R2E-Gym: the map of all tests to their statuses equals the expected one, key for key. Names are compared without
    colour codes and cut at " - "."""
    expected = {_plain_name(test): status_from_word(word) for test, word in oracle.expected_status}
    found = {_plain_name(test): status for test, status in parsed.items()}
    status = {test: found.get(test, TestStatus.MISSING) for test in expected}
    return status, bool(expected) and found == expected


def exit_code(oracle: Oracle, parsed: Parsed, run: TestRun) -> Verdict:
    """The script says it by its exit code alone; every listed test shares that status."""
    passed = TestStatus.PASSED if run.exit_code == 0 else TestStatus.FAILED
    return dict.fromkeys((*oracle.fail_to_pass, *oracle.pass_to_pass), passed), run.exit_code == 0


def reward_file(oracle: Oracle, parsed: Parsed, run: TestRun) -> Verdict:
    """Harbor: the script leaves a number; 1 or more is resolved. Anything else than a number is not."""
    try:
        resolved = float(run.reward_text.strip()) >= 1.0
    except ValueError:
        resolved = False
    passed = TestStatus.PASSED if resolved else TestStatus.FAILED
    return dict.fromkeys((*oracle.fail_to_pass, *oracle.pass_to_pass), passed), resolved


RESOLUTIONS: dict[str, Callable[[Oracle, Parsed, TestRun], Verdict]] = {
    "swe_bench": swe_bench,
    "fail_only": fail_only,
    "exact_map": exact_map,
    "exit_code": exit_code,
    "reward_file": reward_file,
}


def status_of(test: str, parsed: Parsed) -> TestStatus:
    """The status of a listed test, MISSING without one.

    Ids with an open bracket were cut by the dataset (676 in SWE-bench Verified, `t.py::f[a` for `t.py::f[a b]`): they have
    the worst status of the tests that begin with them, as swebench 5 decides when those disagree.

    >>> status_of("t.py::f[a", {"t.py::f[a b]": TestStatus.PASSED})
    <TestStatus.PASSED: 'passed'>
    """
    if test in parsed:
        return parsed[test]
    found = TestStatus.MISSING
    if test.count("[") > test.count("]"):
        candidates = [status for name, status in parsed.items() if name.startswith(test)]
        for index, status in enumerate(candidates):
            found = status if index == 0 else worst(found, status)
    return found


def _hidden_status(oracle: Oracle, parsed: Parsed) -> Parsed:
    return {test: status_of(test, parsed) for test in (*oracle.fail_to_pass, *oracle.pass_to_pass)}


def _plain_name(test: str) -> str:
    return ANSI.sub("", test).partition(" - ")[0]
