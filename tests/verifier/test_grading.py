"""Resolution rules, one per test."""

from dataclasses import replace

import pytest

from envpool.oracle import Oracle
from verifier.grading import ResolutionMissingError, grade_run, ungraded_report
from verifier.test_report import TestStatus as Status
from verifier.test_run import TIMEOUT_EXIT_CODE, TestRun

ORACLE = Oracle("a", "", "", ("t.py::new",), ("t.py::old",), "pytest -rA t.py\n", "parse_log_pytest", 60.0)


def log_of(new: str, old: str) -> str:
    return "".join(f"{word} t.py::{name}\n" for name, word in (("new", new), ("old", old)) if word)


@pytest.mark.parametrize(
    ("new", "old", "resolved"),
    [
        ("PASSED", "PASSED", True),
        ("FAILED", "PASSED", False),
        ("PASSED", "FAILED", False),
        ("ERROR", "PASSED", False),
        ("SKIPPED", "PASSED", False),
        ("PASSED", "SKIPPED", True),
        ("PASSED", "XFAIL", True),
        ("XFAIL", "PASSED", False),
        ("XPASS", "PASSED", True),
        ("", "PASSED", False),
        ("PASSED", "", False),
    ],
)
def test_all_new_and_all_old_tests_decide(new: str, old: str, resolved: bool) -> None:
    assert grade_run(ORACLE, TestRun(log_of(new, old), 0)).resolved is resolved


def test_a_report_names_every_listed_test_and_no_other() -> None:
    report = grade_run(ORACLE, TestRun("PASSED t.py::new\nFAILED t.py::other\n", 1))
    assert report.status == {"t.py::new": Status.PASSED, "t.py::old": Status.MISSING}
    assert (report.instance_id, report.exit_code, report.grader) == ("a", 1, "swe-master-grader/2 swe_bench parse_log_pytest")


def test_ids_cut_inside_their_parameters_find_their_tests() -> None:
    oracle = replace(ORACLE, fail_to_pass=("t.py::new[a",))
    both = "PASSED t.py::new[a b]\n{} t.py::new[a c]\nPASSED t.py::old\n"
    assert grade_run(oracle, TestRun(both.format("PASSED"), 0)).resolved
    assert not grade_run(oracle, TestRun(both.format("FAILED"), 1)).resolved


def test_a_patch_that_no_test_was_run_for_is_not_resolved() -> None:
    report = ungraded_report(ORACLE, "empty", ("x.pyc: junk",))
    assert (report.resolved, report.applied, set(report.status.values())) == (False, False, {Status.MISSING})
    assert (report.log, report.notes, report.dropped) == ("empty", ("empty",), ("x.pyc: junk",))


def test_a_run_that_timed_out_is_not_resolved() -> None:
    assert not grade_run(ORACLE, TestRun(log_of("PASSED", "PASSED"), TIMEOUT_EXIT_CODE)).resolved


def test_a_failing_script_whose_log_shows_no_failure_is_not_believed() -> None:
    passed = log_of("PASSED", "PASSED")
    assert not grade_run(ORACLE, TestRun(passed, 1)).resolved
    assert grade_run(ORACLE, TestRun(passed + "FAILED t.py::flaky_elsewhere\n", 1)).resolved


def test_the_exit_code_of_a_script_that_ends_with_git_says_nothing() -> None:
    oracle = replace(ORACLE, eval_script="pytest -rA t.py\ngit checkout 1234567 t.py\n")
    assert grade_run(oracle, TestRun(log_of("PASSED", "PASSED"), 1)).resolved


def test_a_task_without_new_tests_is_never_resolved() -> None:
    assert not grade_run(replace(ORACLE, fail_to_pass=()), TestRun(log_of("PASSED", "PASSED"), 0)).resolved


@pytest.mark.parametrize(("exit_code", "resolved"), [(0, True), (1, False)])
def test_tasks_judged_by_exit_code(exit_code: int, resolved: bool) -> None:
    oracle = replace(ORACLE, log_parser="exit_code")
    assert grade_run(oracle, TestRun("PASSED lies", exit_code)).resolved is resolved


JUNIT = replace(ORACLE, junit=True)
BOTH = log_of("PASSED", "PASSED")


def junit(**outcomes: str) -> str:
    cases = "".join(f'<testcase classname="t" name="{name}">{child}</testcase>' for name, child in outcomes.items())
    return f"<testsuites><testsuite>{cases}</testsuite></testsuites>"


@pytest.mark.parametrize(
    ("xml", "resolved"),
    [
        (junit(new="", old=""), True),
        (junit(new="", old='<skipped type="pytest.skip"/>'), True),
        (junit(new="<failure>1</failure>", old=""), False),
        (junit(new='<skipped type="pytest.xfail"/>', old=""), False),
        (junit(old=""), False),
        ("", False),
        (junit(new="", old="")[:-5], False),
        ("<!DOCTYPE x>" + junit(new="", old=""), False),
        ("<html/>", False),
    ],
)
def test_with_junit_both_witnesses_must_agree(xml: str, resolved: bool) -> None:
    assert grade_run(JUNIT, TestRun(BOTH, 0, junit_xml=xml)).resolved is resolved
    assert grade_run(ORACLE, TestRun(BOTH, 0, junit_xml=xml)).resolved  # not asked for, not read


def test_a_report_without_the_log_is_not_enough() -> None:
    assert not grade_run(JUNIT, TestRun("", 0, junit_xml=junit(new="", old=""))).resolved


def test_a_cut_log_is_completed_from_the_report_and_worthless_without_one() -> None:
    xml = junit(new="", old="")
    assert grade_run(JUNIT, TestRun("PASSED t.py::new\n", 0, junit_xml=xml, log_cut=True)).resolved
    assert not grade_run(ORACLE, TestRun(BOTH, 0, log_cut=True)).resolved


def test_a_run_that_changed_its_tests_is_not_believed() -> None:
    report = grade_run(ORACLE, TestRun(BOTH, 0, tampered=("t.py",)))
    assert (report.resolved, report.notes) == (False, ("the run changed hidden test files: t.py",))


def test_runners_that_name_failures_only() -> None:
    oracle = replace(ORACLE, resolution="fail_only")
    assert grade_run(oracle, TestRun("PASSED t.py::else\n", 0)).resolved
    assert grade_run(oracle, TestRun("all fine\n", 0)).resolved
    assert not grade_run(oracle, TestRun("FAILED t.py::new\n", 1)).resolved
    assert not grade_run(oracle, TestRun("command not found\n", 127)).resolved


def test_the_whole_map_must_be_as_expected() -> None:
    expected = (("t.py::new", "PASSED"), ("t.py::\x1b[1mold\x1b[0m - why", "FAILED"))
    oracle = replace(ORACLE, resolution="exact_map", expected_status=expected)
    log = "PASSED t.py::new\nFAILED t.py::old - boom\n"
    assert grade_run(oracle, TestRun(log, 1)).resolved
    assert not grade_run(oracle, TestRun(log + "PASSED t.py::more\n", 1)).resolved
    assert not grade_run(oracle, TestRun("PASSED t.py::new\nPASSED t.py::old\n", 0)).resolved
    assert not grade_run(replace(oracle, expected_status=()), TestRun("", 0)).resolved


@pytest.mark.parametrize(
    ("text", "resolved"), [("1\n", True), ("1.0", True), ("0.9", False), ("", False), ("nan", False), ("yes", False)]
)
def test_harbors_scripts_leave_their_verdict_in_a_file(text: str, resolved: bool) -> None:
    oracle = replace(ORACLE, resolution="reward_file", log_parser="exit_code")
    assert grade_run(oracle, TestRun("PASSED lies", 0, reward_text=text)).resolved is resolved


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(ResolutionMissingError, match="'majority'"):
        grade_run(replace(ORACLE, resolution="majority"), TestRun(BOTH, 0))
