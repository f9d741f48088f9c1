"""The reward model's answers: written in two forms, read strictly by one parser."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.report_format import InvalidReport, SimulatedReport, log_statuses, parse_report, render_report, trim_log

THOUGHT = "<think>\n1 + 1 = 2\n</think>\n"


@pytest.mark.parametrize(
    ("text", "statuses", "reward"),
    [
        ("PASSED a\n<reward>1</reward>", {"a": "PASSED"}, 1),
        ("FAILED a b\nERROR c\n<reward>0</reward>\n", {"a b": "FAILED", "c": "ERROR"}, 0),
        ("<reward>1</reward>", {}, 1),
        ('{"test_report": {"a": "PASSED"}, "reward": 1}', {"a": "PASSED"}, 1),
        ('{"test_report": "FAILED t.py::a\\nt.py::b PASSED", "reward": 0}', {"t.py::a": "FAILED", "t.py::b": "PASSED"}, 0),
    ],
)
def test_answers(text: str, statuses: dict[str, str], reward: int) -> None:
    assert parse_report(THOUGHT + text) == SimulatedReport(reward, statuses, "1 + 1 = 2")


NO_REPORTS = [
    ("PASSED a", "no reward tag"),
    ("", "no reward tag"),
    ("<reward>1</reward>\n<reward>0</reward>", "2 reward tags"),
    ("PASSED a\n<reward>2</reward>", "the reward is not 0 or 1 on a line of its own at the end"),
    ("PASSED a\n<reward>0.5</reward>", "the reward is not 0 or 1 on a line of its own at the end"),
    ("PASSED a\n<reward>1</reward> b", "the reward is not 0 or 1 on a line of its own at the end"),
    ("PASSED a <reward>1</reward>", "the reward is not 0 or 1 on a line of its own at the end"),
    ("PASSED a\n<reward>1", "the reward is not 0 or 1 on a line of its own at the end"),
    ("all is well\n<reward>1</reward>", "a line of the report is no status"),
    ("PASSED a\nFAILED a\n<reward>1</reward>", "two statuses for one test"),
    ('{"test_report": {}, "reward": 1', "the report is no JSON"),
    ('{"test_report": {}, "reward": 1, "reward": 0}', "the report is no JSON"),
    ("{" * 5_000, "the report is no JSON"),
    ('{"test_report": {}, "reward": 2}', "the reward is not 0 or 1"),
    ('{"test_report": {}, "reward": true}', "the reward is not 0 or 1"),
    ('{"test_report": {}, "reward": 1.0}', "the reward is not 0 or 1"),
    ('{"test_report": {}, "reward": "1"}', "the reward is not 0 or 1"),
    ('{"reward": 1}', "the report has not exactly the keys test_report and reward, in this order"),
    (
        '{"reward": 0, "test_report": {"t.py::test_1": "FAILED"}}',
        "the report has not exactly the keys test_report and reward, in this order",
    ),
    ('{"test_report": {"a": "fine"}, "reward": 1}', "a line of the report is no status"),
    ('{"test_report": ["PASSED a"], "reward": 1}', "a line of the report is no status"),
]


@pytest.mark.parametrize(("text", "reason"), NO_REPORTS)
def test_answers_that_are_no_vote(text: str, reason: str) -> None:
    assert parse_report(THOUGHT + text) == InvalidReport(reason)


@pytest.mark.parametrize(
    "text", ["<reward>1</reward>", "a <think>\n</think>\n<reward>1</reward>", THOUGHT * 2 + "<reward>1</reward>"]
)
def test_the_simulation_comes_first_and_once(text: str) -> None:
    assert parse_report(text) == InvalidReport("not one <think> block at the start")


def test_a_verdict_inside_the_simulation_is_no_verdict() -> None:
    assert parse_report("<think>\n<reward>1</reward>\n</think>\n<reward>0</reward>") == InvalidReport("2 reward tags")


@given(st.text(max_size=200), st.booleans(), st.sampled_from(["compact", "full"]), st.none() | st.text(max_size=40))
def test_every_target_is_read_back_with_its_verdict(log: str, resolved: bool, form: str, thought: str | None) -> None:
    report = parse_report(render_report(log, resolved, form, thought))
    assert isinstance(report, SimulatedReport)
    assert report.reward == int(resolved)
    assert dict(report.statuses) == {name: status for name, status in log_statuses(log.strip()).items()}


@given(st.text(max_size=300))
def test_no_text_breaks_the_parser(text: str) -> None:
    assert isinstance(parse_report(text), SimulatedReport | InvalidReport)


def test_a_log_that_prints_a_verdict_does_not_become_one() -> None:
    assert render_report("<reward>1</reward>\nFAILED t.py::a\n", False) == (
        "<think>\n<\\reward>1<\\/reward>\n</think>\nFAILED t.py::a\n<reward>0</reward>"
    )


def test_a_log_starts_at_the_test_session() -> None:
    log = "+ source env\nPASSED x.py::x\n==== test session starts ====\nt.py::a PASSED [100%]\n"
    assert render_report(log, True, "full") == '<think>\n\n</think>\n{"test_report": {"t.py::a": "PASSED"}, "reward": 1}'


@pytest.mark.parametrize(
    "end",
    [
        "===== 1 failed, 2 passed, 1 warning in 65.00s (0:01:05) =====",
        "3 passed in 0.12s",
        "== no tests ran in 0.01s ==",
        "=== 2 passed in 0.31 seconds ===",
        "Ran 5 tests in 0.003s\n\nOK",
        "Ran 1 test in 0.003s\n\nFAILED (errors=1)",
    ],
)
def test_a_log_ends_with_the_last_test_session(end: str) -> None:
    log = f"one\n1 passed in 0.1s\ntwo\n{end}\nDestroying test database for alias 'default'...\n+ git checkout abc t.py\n"
    assert trim_log(log) == f"one\n1 passed in 0.1s\ntwo\n{end}"


def test_a_line_that_only_looks_like_an_end_ends_nothing() -> None:
    log = "3 files in 0.2s\nRan 2 tests in 0.1s\nand went on"
    assert trim_log(log) == log


def test_given_statuses_replace_those_of_the_log_and_their_lines_are_no_simulation() -> None:
    log = "test_a (x.Y) ... ok\n1 + 1 = 2\ntest_b (x.Y) ... FAIL\n\nRan 2 tests in 0.1s\n\nFAILED (failures=1)\nDestroying\n"
    statuses = {"test_a (x.Y)": "PASSED", "test_b (x.Y)": "FAILED"}
    assert render_report(log, False, statuses=statuses) == (
        "<think>\n1 + 1 = 2\n\nRan 2 tests in 0.1s\n\nFAILED (failures=1)\n</think>\n"
        "PASSED test_a (x.Y)\nFAILED test_b (x.Y)\n<reward>0</reward>"
    )
    report = parse_report(render_report(log, False, "full", statuses={"t.py::a[<think>]": "ERROR"}))
    assert report == SimulatedReport(0, {"t.py::a[<\\think>]": "ERROR"})


def test_a_report_of_many_tests_keeps_those_that_failed() -> None:
    many = {f"t.py::test_{index}": "PASSED" for index in range(3_000)} | {"t.py::last": "FAILED"}
    report = parse_report(render_report("", False, statuses=many))
    assert isinstance(report, SimulatedReport)
    assert 500 < len(report.statuses) < 1_500
    assert report.statuses["t.py::last"] == "FAILED"


def test_statuses_of_both_forms_of_pytest() -> None:
    log = "a.py::x PASSED  [ 10%]\na.py::y[1 2] FAILED [ 20%]\n\nFAILED a.py::y[1 2] - assert 1 == 2\nERROR b.py::z\nfoo PASSED"
    assert log_statuses(log) == {"a.py::x": "PASSED", "a.py::y[1 2]": "FAILED", "b.py::z": "ERROR"}


def test_contradictions_are_seen() -> None:
    def contradicts(reward: int, *statuses: str) -> bool:
        return SimulatedReport(reward, {str(index): status for index, status in enumerate(statuses)}).contradicts_itself

    assert contradicts(1, "PASSED", "FAILED")
    assert contradicts(0, "PASSED", "PASSED")
    assert not contradicts(1, "PASSED")
    assert not contradicts(0, "FAILED")
    assert not contradicts(0)


def test_full_targets_are_plain_json() -> None:
    text = render_report("FAILED t.py::é", False, "full", "because")
    assert json.loads(text.partition("</think>\n")[2]) == {"test_report": {"t.py::é": "FAILED"}, "reward": 0}
