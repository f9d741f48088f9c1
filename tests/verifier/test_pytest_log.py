"""The log parsers against literal lines and against the logs of real runs."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.oracle import Oracle
from verifier.grading import grade_run
from verifier.log_parsers import LOG_PARSERS, log_parser
from verifier.log_parsers.pytest_log import parse_log_pytest
from verifier.log_parsers.pytest_verbose_log import parse_log_pytest_verbose
from verifier.log_parsers.swebench_log import LogParserMissingError, status_from_word
from verifier.test_report import TestStatus as Status
from verifier.test_run import TestRun

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("PASSED a.py::x", {"a.py::x": Status.PASSED}),
        ("FAILED a.py::x - assert 1 == 2", {"a.py::x": Status.FAILED}),
        ("FAILED a.py::x", {"a.py::x": Status.FAILED}),
        ("ERROR a.py - ImportError: no b", {"a.py": Status.ERROR}),
        ("XFAIL a.py::x - later", {"a.py::x": Status.XFAIL}),
        ("XPASS a.py::x - already", {"a.py::x": Status.PASSED}),
        ("SKIPPED a.py::x - no net", {"a.py::x": Status.SKIPPED}),
        ("SKIPPED [3] a.py:12: no net", {"a.py:12": Status.SKIPPED}),
        ("PASSED a.py::x[1 - 2]", {"a.py::x[1 - 2]": Status.PASSED}),
        ("FAILED a.py::x[1 - 2] - assert l[0] - 1", {"a.py::x[1 - 2]": Status.FAILED}),
        ("FAILED a.py::x[1 - 2]", {"a.py::x[1 - 2]": Status.FAILED}),
        ("FAILED a.py::x - assert l[0] - 1", {"a.py::x": Status.FAILED}),
        ("\x1b[32mPASSED\x1b[0m a.py::\x1b[1mx\x1b[0m", {"a.py::x": Status.PASSED}),
        ("PASSED", {}),
        ("PASSED in 3 s", {"in 3 s": Status.PASSED}),
        (" PASSED a.py::x", {}),
        ("3 PASSED a.py::x", {}),
    ],
)
def test_one_summary_line(line: str, expected: dict[str, Status]) -> None:
    assert parse_log_pytest(f"noise\n{line}\r\nmore noise\n") == expected


def test_a_printed_pass_does_not_cover_a_reported_failure() -> None:
    for log in ("PASSED a.py::x\nFAILED a.py::x - boom\n", "FAILED a.py::x - boom\nPASSED a.py::x\n"):
        assert parse_log_pytest(log) == {"a.py::x": Status.FAILED}


NAME = st.text(st.characters(codec="ascii", min_codepoint=33, exclude_characters="[]"), min_size=1, max_size=12)
PARAMETERS = st.text(st.characters(codec="ascii", min_codepoint=32, exclude_characters="[]"), max_size=12)


@given(st.lists(st.tuples(NAME, PARAMETERS, st.sampled_from(["PASSED", "FAILED", "ERROR", "XFAIL"]), st.booleans()), max_size=8))
def test_every_summary_line_is_found_with_its_id(tests: list[tuple[str, str, str, bool]]) -> None:
    expected, lines = {}, []
    for index, (name, parameters, word, message) in enumerate(tests):
        test = f"t{index}.py::{name}[{parameters}]"
        expected[test] = Status(word.lower())
        lines.append(f"{word} {test}" + (" - why [not] - so" if message and word != "PASSED" else ""))
    assert parse_log_pytest("\n".join(lines)) == expected


@given(st.text(max_size=300))
def test_no_log_breaks_a_parser(log: str) -> None:
    for parse in LOG_PARSERS.values():
        assert all(isinstance(status, Status) for status in parse(log).values())


def test_verbose_lines() -> None:
    log = "a.py::x PASSED    [ 10%]\na.py::y[a b] FAILED\na.py::z SKIPPED (no net) [100%]\nE  a.py PASSED\n"
    assert parse_log_pytest_verbose(log) == {"a.py::x": Status.PASSED, "a.py::y[a b]": Status.FAILED, "a.py::z": Status.SKIPPED}


def test_an_unknown_parser_says_what_to_do() -> None:
    with pytest.raises(LogParserMissingError, match="parse_log_nothing"):
        log_parser("parse_log_nothing")


def test_swebench_words_become_statuses() -> None:
    assert [status_from_word(word) for word in ("PASSED", "XFAIL", "RERUN")] == [Status.PASSED, Status.XFAIL, Status.ERROR]


def _rows() -> Iterator[dict]:
    path = SHARED / "swe_master" / "trajectories" / "swe_rebench_glm46.jsonl"
    if not path.is_file():
        pytest.skip("the recorded runs are not here")
    with path.open() as lines:
        yield from map(json.loads, lines)


def test_recorded_runs_regrade_to_their_rewards() -> None:
    rewards = {}
    for row in _rows():
        tests = row["ds"]
        oracle = Oracle(
            tests["instance_id"], "", "", tuple(tests["FAIL_TO_PASS"]), tuple(tests["PASS_TO_PASS"]), "", "parse_log_pytest", 60.0
        )
        report = grade_run(oracle, TestRun(row["test_output"], 0))
        assert Status.MISSING not in report.status.values()
        assert float(report.resolved) == row["reward"]
        rewards[tests["instance_id"]] = report.resolved
    assert sorted(rewards.values()) == [False, False, True, True, True, True]


def test_recorded_runs_of_another_harness_regrade_to_their_reports() -> None:
    folders = sorted((SHARED / "swe_smith_logs").glob("*/report.json"))
    if not folders:
        pytest.skip("the recorded logs are not here")
    for path in folders:
        recorded = json.loads(path.read_text())
        tests = {kind: [t for ids in sides.values() for t in ids] for kind, sides in recorded["tests_status"].items()}
        oracle = Oracle(
            path.parent.name,
            "",
            "",
            tuple(tests["FAIL_TO_PASS"]),
            tuple(tests["PASS_TO_PASS"]),
            "",
            "parse_log_pytest_verbose",
            60.0,
        )
        log = (path.parent / "test_output.txt").read_text()
        assert re.search("::test_", log)
        assert grade_run(oracle, TestRun(log, 0)).resolved is recorded["resolved"]
