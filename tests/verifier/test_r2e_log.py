"""R2E-Gym's log format, by literal."""

from hypothesis import given
from hypothesis import strategies as st

from verifier.log_parsers import log_parser
from verifier.log_parsers.r2e_log import parse_log_r2e
from verifier.test_report import TestStatus

PASSED, FAILED, ERROR = TestStatus.PASSED, TestStatus.FAILED, TestStatus.ERROR
LOG = """\
PASSED r2e_tests/test_1.py::before_the_summary
=========================== short test summary info ============================
\x1b[32mPASSED\x1b[0m r2e_tests/test_1.py::TestA::\x1b[1mtest_one\x1b[0m
PASSED r2e_tests/test_1.py::test_two[x - y]
FAILED r2e_tests/test_1.py::test_three - RuntimeError: PASSED
FAILED r2e_tests/test_2.py::test_four[a] - AssertionError
SKIPPED [1] r2e_tests/test_1.py:7: not here
XFAIL r2e_tests/test_1.py::test_five
ERROR r2e_tests/test_3.py - ImportError: no module
==================== 2 failed, 2 passed, 1 skipped in 0.12s ====================
PASSED r2e_tests/test_1.py::test_three
"""


def test_the_summary_by_literal() -> None:
    assert parse_log_r2e(LOG) == {
        "TestA.test_one": PASSED,
        "test_two[x - y]": PASSED,
        "test_three": FAILED,
        "test_four[a]": FAILED,
        "": ERROR,
    }
    assert log_parser("parse_log_r2e") is parse_log_r2e


def test_tornado_prints_no_last_line() -> None:
    log = (
        "= short test summary info =\nPASSED tornado.test.web_test::WebTest::test_get\n"
        "FAILED tornado.test.web_test::WebTest::test_put\n"
    )
    assert parse_log_r2e(log) == {"WebTest.test_get": PASSED, "WebTest.test_put": FAILED}


def test_a_forged_summary_cannot_lift_a_failure() -> None:
    forged = "=== short test summary info ===\nPASSED r2e_tests/test_1.py::test_three\n=== 1 passed in 0.01s ===\n"
    assert parse_log_r2e(forged + LOG)["test_three"] is FAILED
    assert parse_log_r2e(LOG + forged)["test_three"] is FAILED


def test_of_one_name_in_one_summary_the_later_counts() -> None:
    lines = ["= short test summary info =", "FAILED r2e_tests/a.py::x", "PASSED r2e_tests/b.py::x"]
    assert parse_log_r2e("\n".join(lines)) == {"x": PASSED}


def test_a_log_without_summary_has_no_test() -> None:
    assert parse_log_r2e("PASSED a.py::x\n") == {}


@given(st.text())
def test_any_text_is_read(log: str) -> None:
    assert isinstance(parse_log_r2e("short test summary info\n" + log), dict)
