"""Resolution rules, one per test."""

from dataclasses import replace

import pytest

from envpool.oracle import Oracle
from verifier.grading import TIMEOUT_EXIT_CODE, grade_log, ungraded_report
from verifier.test_report import TestStatus as Status

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
    assert grade_log(ORACLE, log_of(new, old), 0, applied=True).resolved is resolved


def test_a_report_names_every_listed_test_and_no_other() -> None:
    report = grade_log(ORACLE, "PASSED t.py::new\nFAILED t.py::other\n", 1, applied=True)
    assert report.status == {"t.py::new": Status.PASSED, "t.py::old": Status.MISSING}
    assert (report.instance_id, report.exit_code, report.grader) == ("a", 1, "swe-master-grader/1")


def test_ids_cut_at_a_blank_find_their_tests() -> None:
    oracle = replace(ORACLE, fail_to_pass=("t.py::new[a",))
    both = "PASSED t.py::new[a b]\n{} t.py::new[a c]\nPASSED t.py::old\n"
    assert grade_log(oracle, both.format("PASSED"), 0, applied=True).resolved
    assert not grade_log(oracle, both.format("FAILED"), 1, applied=True).resolved


def test_a_patch_that_does_not_apply_is_not_resolved_whatever_the_log_says() -> None:
    report = grade_log(ORACLE, log_of("PASSED", "PASSED"), 0, applied=False)
    assert (report.resolved, report.applied, set(report.status.values())) == (False, False, {Status.MISSING})
    assert ungraded_report(ORACLE, "empty").log == "empty"


def test_a_run_that_timed_out_is_not_resolved() -> None:
    assert not grade_log(ORACLE, log_of("PASSED", "PASSED"), TIMEOUT_EXIT_CODE, applied=True).resolved


def test_a_failing_script_whose_log_shows_no_failure_is_not_believed() -> None:
    passed = log_of("PASSED", "PASSED")
    assert not grade_log(ORACLE, passed, 1, applied=True).resolved
    assert grade_log(ORACLE, passed + "FAILED t.py::flaky_elsewhere\n", 1, applied=True).resolved


def test_the_exit_code_of_a_script_that_ends_with_git_says_nothing() -> None:
    oracle = replace(ORACLE, eval_script="pytest -rA t.py\ngit checkout 1234567 t.py\n")
    assert grade_log(oracle, log_of("PASSED", "PASSED"), 1, applied=True).resolved


def test_a_task_without_new_tests_is_never_resolved() -> None:
    assert not grade_log(replace(ORACLE, fail_to_pass=()), log_of("PASSED", "PASSED"), 0, applied=True).resolved


@pytest.mark.parametrize(("exit_code", "resolved"), [(0, True), (1, False)])
def test_tasks_judged_by_exit_code(exit_code: int, resolved: bool) -> None:
    oracle = replace(ORACLE, log_parser="exit_code")
    assert grade_log(oracle, "PASSED lies", exit_code, applied=True).resolved is resolved
