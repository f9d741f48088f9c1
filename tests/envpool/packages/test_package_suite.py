"""Starting a package's suite, and reading what it said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.packages.package_baseline import reliable_tests
from envpool.packages.package_suite import SuiteCommand, SuiteRun, read_summary
from envpool.packages.test_reach import FileReach, read_reach
from envpool.packages.test_runtime import RUNTIME_FILE


def test_the_last_summary_counts() -> None:
    log = (
        "PASSED fake.py::printed\n=== short test summary info ===\nPASSED old.py::x\n"
        "=========== short test summary info ============\n"
        "PASSED a.py::ok\nPASSED a.py::param[1-a]\nPASSED a.py::blank[a b]\nSKIPPED [1] a.py:3: no\nXFAIL a.py::x - why\n"
        "PASSED a.py::teardown\nERROR a.py::teardown - OSError: gone\nFAILED a.py::bad - assert 1 - 2 == 3\n"
        "ERROR b.py\n2 failed\n"
    )
    assert read_summary(log) == (
        {
            "a.py::ok": "PASSED",
            "a.py::param[1-a]": "PASSED",
            "a.py::teardown": "ERROR",
            "a.py::bad": "FAILED",
            "b.py": "ERROR",
        },
        {"a.py::teardown": "OSError: gone", "a.py::bad": "assert 1 - 2 == 3"},
        1,
    )
    assert read_summary("PASSED a.py::x\n") == ({}, {}, 0)


@given(st.text())
def test_reading_a_summary_never_fails(log: str) -> None:
    read_summary("= short test summary info =\n" + log)


def test_the_command_is_one_shell_line() -> None:
    command = SuiteCommand("python3", ("src",), RUNTIME_FILE, ("-o", "addopts="))
    assert command.script(("tests/a b.py",)) == (
        'COLUMNS=200 PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 TEST_IMPORT_PATH="$PWD"/src python3 "$PWD"/.test-runtime.zip '
        "-rA -q --tb=short -p no:cacheprovider --continue-on-collection-errors -o addopts= 'tests/a b.py'\n"
    )
    assert 'PYTHONPATH="$PWD" python3 -m pytest -rA ' in SuiteCommand("python3", (".",)).script()


def run_of(**status: str) -> SuiteRun:
    return SuiteRun({f"t.py::{name}": word for name, word in status.items()}, {}, 0, 0, False, 0.1, "")


def test_tests_that_do_not_always_pass_are_flaky() -> None:
    runs = [run_of(a="PASSED", b="PASSED", c="FAILED"), run_of(a="PASSED", b="FAILED"), run_of(a="PASSED", b="PASSED")]
    assert reliable_tests(runs, ("t.py",)) == ({"t.py::a"}, {"t.py::b"})
    assert reliable_tests(runs, ("other.py",)) == (frozenset(), {"t.py::b"})


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"calls": [[1]], "opaque": false}', b'{"calls": []}', b"\xff"])
def test_without_a_result_of_the_tracer_a_file_may_reach_anything(data: bytes) -> None:
    assert read_reach(data, 1.5) == FileReach(frozenset(), True, 1.5)
