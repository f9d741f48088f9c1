"""pytest's JUnit report against what pytest really writes, and against anything else."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.junit_report import JUnitError, case_of, parse_junit
from verifier.log_parsers import log_parser
from verifier.test_report import TestStatus as Status

SUITE = """
import pytest

class TestIt:
    @pytest.mark.parametrize("value", [1, "a b", "x::y", "é", "tab\\tbell\\x07", "[", "a - b"])
    def test_many(self, value): pass

def test_fails(): assert 0
def test_skips(): pytest.skip("no")
@pytest.mark.xfail
def test_xfails(): assert 0
@pytest.mark.xfail
def test_xpasses(): pass
@pytest.fixture
def broken(): raise ValueError
def test_errors(broken): pass
@pytest.fixture
def leaky():
    yield
    raise ValueError
def test_teardown(leaky): pass
"""


def test_every_test_of_the_log_is_found_with_its_status(tmp_path: Path) -> None:
    folder = tmp_path / "sub" / "dir"
    folder.mkdir(parents=True)
    (folder / "test_it.py").write_text(SUITE)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-rA",
        "-p",
        "no:cacheprovider",
        "-c",
        "/dev/null",
        "--rootdir=.",
        "--junitxml=r.xml",
        "sub",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    cases = parse_junit((tmp_path / "r.xml").read_text())
    parsed = log_parser("parse_log_pytest")(done.stdout)
    named = {test: status for test, status in parsed.items() if "::" in test}  # skips are folded to file and line
    assert len(named) == 12
    for test, status in named.items():
        assert cases[case_of(test)] is status, test
    assert cases["sub.dir.test_it", "test_skips"] is Status.SKIPPED
    assert cases["sub.dir.test_it", "test_teardown"] is Status.ERROR


@pytest.mark.parametrize(
    "xml", ["", "x", "<a/>", "<testsuite>", "<testsuites><testsuite></testsuites>", '<!DOCTYPE a [<!ENTITY b "c">]><testsuite/>']
)
def test_what_is_no_report(xml: str) -> None:
    with pytest.raises(JUnitError):
        parse_junit(xml)


@given(st.text())
def test_any_text_is_a_report_or_a_junit_error(xml: str) -> None:
    for text in (xml, f"<testsuite>{xml}</testsuite>"):
        with contextlib.suppress(JUnitError):
            assert all(isinstance(status, Status) for status in parse_junit(text).values())


@given(st.text(min_size=1))
def test_the_case_of_any_id_can_stand_in_xml(test_id: str) -> None:
    _, name = case_of(test_id)
    assert not set(name) & {*map(chr, range(9)), "\x0b", "\x7f", "\ufffe"}
