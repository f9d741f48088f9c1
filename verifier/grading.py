"""From a run of the hidden tests to a verdict. Pure: no sandbox, no clock.

A run is judged by witnesses that must agree: the log (read by the parser that the task names), the exit code that the
sandbox reports, pytest's JUnit report where the script starts pytest, and the hidden test files being what they were. Where
they do not, the run is not resolved and the report's `notes` say why.
"""

from envpool.oracle import Oracle
from verifier.junit_report import JUnitError, case_of, parse_junit
from verifier.log_parsers import log_parser, parser_version
from verifier.resolution import RESOLUTIONS, Parsed
from verifier.test_report import GRADER, TestReport, TestStatus, worst
from verifier.test_run import TestRun

EXIT_CODE_PARSER = "exit_code"
"""Name of the parser of tasks whose log is not read."""


class ResolutionMissingError(LookupError):
    """A task names a rule that is not in RESOLUTIONS."""


def grade_run(oracle: Oracle, run: TestRun, dropped: tuple[str, ...] = ()) -> TestReport:
    """The report of one run. `dropped` are the parts of the patch that were left out, kept in the report.

    Resolved needs: the task's own rule (`verifier.resolution`), no time-out, an exit code that the log explains, and, with
    `oracle.junit`, a JUnit report that names the same tests with the same result. Raises LogParserMissingError,
    ResolutionMissingError.
    """
    parsed = _parsed(oracle, run.log)
    notes = list(_doubts(oracle, run, parsed))
    if oracle.junit and not run.timed_out:
        parsed, doubt = _with_junit(parsed, run)
        notes += [doubt] if doubt else []
    rule = EXIT_CODE_PARSER if oracle.log_parser == EXIT_CODE_PARSER and oracle.resolution == "swe_bench" else oracle.resolution
    if rule not in RESOLUTIONS:
        raise ResolutionMissingError(f"{oracle.instance_id}: unknown rule {rule!r}; known: {', '.join(sorted(RESOLUTIONS))}")
    status, resolved = RESOLUTIONS[rule](oracle, parsed, run)
    return TestReport(
        instance_id=oracle.instance_id,
        status=status,
        resolved=resolved and not notes,
        applied=True,
        exit_code=run.exit_code,
        log=run.log,
        notes=tuple(notes),
        dropped=dropped,
        grader=f"{GRADER} {oracle.resolution} {parser_version(oracle.log_parser)}",
    )


def ungraded_report(oracle: Oracle, why: str, dropped: tuple[str, ...] = ()) -> TestReport:
    """The report of a patch that no test was run for (empty, or it does not apply): not resolved, every test MISSING."""
    tests = (*oracle.fail_to_pass, *oracle.pass_to_pass)
    return TestReport(
        oracle.instance_id, dict.fromkeys(tests, TestStatus.MISSING), False, False, 1, why, dropped=dropped, notes=(why,)
    )


def no_test_ran(oracle: Oracle, run: TestRun) -> bool:
    """Whether the run shows no sign of any test: then what broke may not be the patch."""
    return not run.timed_out and not run.reward_text and not run.junit_xml and not _parsed(oracle, run.log)


def exit_code_is_explained(oracle: Oracle, parsed: Parsed, exit_code: int) -> bool:
    """False when the script failed although no test in its log did: it crashed, or its log is not to be believed.

    Tests outside the two lists may fail, so a non-zero code with a failed test somewhere is ordinary. Scripts that end with a
    git command (SWE-bench's restore the test files last) return git's code, which says nothing about the tests.
    """
    lines = oracle.eval_script.strip().splitlines()
    if exit_code == 0 or (lines and lines[-1].lstrip().startswith("git ")):
        return True
    return any(found in (TestStatus.FAILED, TestStatus.ERROR) for found in parsed.values())


def _parsed(oracle: Oracle, log: str) -> Parsed:
    return {} if oracle.log_parser == EXIT_CODE_PARSER else log_parser(oracle.log_parser)(log)


def _doubts(oracle: Oracle, run: TestRun, parsed: Parsed) -> list[str]:
    doubts = []
    if run.timed_out:
        doubts.append("the hidden tests did not end in time")
    elif oracle.log_parser != EXIT_CODE_PARSER and not exit_code_is_explained(oracle, parsed, run.exit_code):
        doubts.append(f"the script ended with {run.exit_code} although no test in its log failed")
    if run.tampered:
        doubts.append(f"the run changed hidden test files: {', '.join(run.tampered[:5])}")
    if run.log_cut and not oracle.junit:
        doubts.append("the log was too long to be kept whole")
    return doubts


def _with_junit(parsed: Parsed, run: TestRun) -> tuple[Parsed, str]:
    """The statuses that log and JUnit report agree on (the worse of the two; MISSING where the report does not know the
    test), and what is wrong with the report, "" for nothing. A cut log is completed from the report."""
    if not run.junit_xml:
        return parsed, "pytest did not write its JUnit report: the session did not reach its end"
    try:
        cases = parse_junit(run.junit_xml)
    except JUnitError as error:
        return parsed, f"pytest's JUnit report {error}"
    agreed = {test: worst(status, cases.get(case_of(test), TestStatus.MISSING)) for test, status in parsed.items()}
    if run.log_cut:
        known = {case_of(test) for test in agreed}
        agreed |= {_test_id(case): status for case, status in cases.items() if case not in known}
    return agreed, ""


def _test_id(case: tuple[str, str]) -> str:
    """The node id of a module-level test's case; ids of methods cannot be told from their case alone.

    >>> _test_id(("tests.test_a", "test_b"))
    'tests/test_a.py::test_b'
    """
    return f"{case[0].replace('.', '/')}.py::{case[1]}"
