"""What of a patch is graded."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.oracle import HiddenFile, Oracle
from envpool.patch import Patch
from tests.verifier.small_repo import file_diff
from verifier.patch_cleaning import clean_patch, hidden_test_paths
from verifier.patch_sections import patch_sections

GOLD = file_diff("src/pkg/core.py", "a\n", "b\n")
ORACLE = Oracle("x", GOLD, file_diff("checks/test_core.py", None, "1\n"), ("t",), (), "", "parse_log_pytest", 1.0)
FIX = file_diff("src/pkg/core.py", "a\n", "c\n")


def dropped(diff: str, oracle: Oracle = ORACLE) -> tuple[str, ...]:
    cleaned = clean_patch(Patch(diff + FIX), oracle)
    assert cleaned.patch.diff == (FIX if cleaned.dropped else diff + FIX)
    return cleaned.dropped


@pytest.mark.parametrize(
    ("diff", "reason"),
    [
        (file_diff("checks/test_core.py", None, "x\n"), "hidden test"),
        (file_diff("checks", None, "x\n"), "hidden test"),
        (file_diff("conftest.py", None, "x\n"), "set-up of the tests"),
        (file_diff("deep/down/conftest.py", "y\n", "x\n"), "set-up of the tests"),
        (file_diff("pyproject.toml", "y\n", "x\n"), "set-up of the tests"),
        (file_diff("tests/test_more.py", None, "x\n"), "in a test folder"),
        (file_diff("pkg/tests/data.json", "y\n", "x\n"), "in a test folder"),
        (file_diff("pytest.py", None, "x\n"), "shadows a module that the tests import"),
        (file_diff("src/_pytest/x.py", None, "x\n"), "shadows a module that the tests import"),
        (file_diff("json/__init__.py", None, "x\n"), "shadows a module that the tests import"),
        (file_diff("checks/pkg.py", None, "x\n"), "shadows the module under test"),
        (file_diff("pkg/core.py", None, "x\n"), "shadows the module under test"),
        (file_diff("sitecustomize.py", None, "x\n"), "runs when Python starts"),
        (file_diff("a/__pycache__/x.pyc", None, "x\n"), "junk"),
        (file_diff("x.orig", None, "x\n"), "junk"),
        (file_diff("evil.pth", None, "x\n"), "junk"),
        (file_diff(".git/hooks/pre-commit", None, "x\n"), "junk"),
        (file_diff("reproduce_issue.py", None, "x\n"), "scratch file"),
        (file_diff("../out.py", None, "x\n"), "leaves the repository"),
        (file_diff("a/../../out.py", None, "x\n"), "leaves the repository"),
        ("diff --git a/a.py b/tests/a.py\nsimilarity index 100%\nrename from a.py\nrename to tests/a.py\n", "in a test folder"),
    ],
)
def test_what_is_left_out(diff: str, reason: str) -> None:
    (found,) = dropped(diff)
    assert found.endswith(f": {reason}")


@pytest.mark.parametrize(
    "diff",
    [
        file_diff("src/pkg/json.py", None, "x\n"),
        file_diff("src/pkg/new/types.py", None, "x\n"),
        file_diff("json.py", "y\n", "x\n"),  # it is there already: the repository's own business
        file_diff("site/index.html", None, "x\n"),
        file_diff("docs/reproduce.md", None, "x\n"),
        file_diff("src/pkg/testing.py", None, "x\n"),
        file_diff("setup.py", "y\n", "x\n"),
        file_diff("latest/x.py", None, "x\n"),
    ],
)
def test_what_is_kept(diff: str) -> None:
    assert dropped(diff) == ()


def test_what_the_reference_touches_may_be_touched() -> None:
    for path in ("conftest.py", "tests/helper.py", "pyproject.toml", "pytest.py"):
        gold = replace(ORACLE, gold_patch=GOLD + file_diff(path, None, "z\n"))
        assert dropped(file_diff(path, None, "x\n"), gold) == ()


def test_hidden_files_are_hidden_tests_too() -> None:
    oracle = replace(ORACLE, hidden_files=(HiddenFile("verify/run.sh", b"", True), HiddenFile("/tests/test.sh", b"", True)))
    assert hidden_test_paths(oracle) == ("checks/test_core.py", "verify/run.sh")
    assert dropped(file_diff("verify/run.sh", None, "x\n"), oracle) == ("verify/run.sh: hidden test",)


def test_without_protection_only_hidden_tests_and_junk_go() -> None:
    diff = file_diff("conftest.py", None, "x\n") + file_diff("checks/test_core.py", None, "x\n")
    cleaned = clean_patch(Patch(diff), ORACLE, protect_test_setup=False)
    assert (cleaned.patch.files, cleaned.dropped) == (("conftest.py",), ("checks/test_core.py: hidden test",))


def test_text_that_is_no_diff_is_left_to_git() -> None:
    assert clean_patch(Patch("no diff\n"), ORACLE).patch == Patch("no diff\n")


@given(
    st.lists(
        st.sampled_from([FIX, GOLD, file_diff("conftest.py", None, "x\n"), "diff --git a/b c/d\n", "@@ -1 +1 @@\n+x\n", "\x00\n"])
    )
)
def test_any_text_is_cleaned_and_cleaning_again_changes_nothing(parts: list[str]) -> None:
    cleaned = clean_patch(Patch("".join(parts)), ORACLE)
    if patch_sections(cleaned.patch.diff):
        assert clean_patch(cleaned.patch, ORACLE).patch == cleaned.patch
