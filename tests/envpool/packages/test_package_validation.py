"""What several runs of a task agree on, and what is made of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from envpool.packages.candidate_bugs import BugSet, candidate_bugs
from envpool.packages.issue_writer import TemplateWriter
from envpool.packages.package_baseline import Baseline
from envpool.packages.package_screening import Dropped, Noticed, Screening
from envpool.packages.package_sources import unpack_package
from envpool.packages.package_suite import SuiteCommand, SuiteRun
from envpool.packages.package_validation import (
    SettledTests,
    Validated,
    Validation,
    Verdict,
    difficulty_word,
    nothing_changed,
    settled_tests,
    sources_of_tests,
)
from envpool.packages.test_reach import FileReach, TestReach
from envpool.sandbox_errors import SandboxLostError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.task import Task
from tests.envpool.packages.small_sdist import SDIST, write_sdist


def verdict(**status: str) -> Verdict:
    return Verdict({f"t.py::{name}": word for name, word in status.items()}, False)


FAILING, PASSING = frozenset({"t.py::a", "t.py::b"}), frozenset({"t.py::c", "t.py::d"})
BROKEN = verdict(a="failed", b="error", c="passed", d="passed")
FIXED = verdict(a="passed", b="passed", c="passed", d="passed")


def test_stable_tests_settle() -> None:
    assert settled_tests(FAILING, PASSING, [BROKEN, BROKEN], FIXED) == SettledTests(
        ("t.py::a", "t.py::b"), ("t.py::c", "t.py::d"), ()
    )


@pytest.mark.parametrize(
    ("broken", "fixed", "left"),
    [
        (verdict(a="passed", b="failed", c="passed", d="passed"), FIXED, "t.py::a"),
        (verdict(a="failed", b="failed", c="missing", d="passed"), FIXED, "t.py::c"),
        (BROKEN, verdict(a="failed", b="passed", c="passed", d="passed"), "t.py::a"),
        (BROKEN, verdict(a="passed", b="passed", c="passed", d="skipped"), "t.py::d"),
        (BROKEN, verdict(b="passed", c="passed", d="passed"), "t.py::a"),
    ],
)
def test_a_test_that_changes_its_mind_is_left_out(broken: Verdict, fixed: Verdict, left: str) -> None:
    settled = settled_tests(FAILING, PASSING, [BROKEN, broken], fixed)
    assert settled.unstable == (left,)
    assert {*settled.fail_to_pass, *settled.pass_to_pass} == (FAILING | PASSING) - {left}


@pytest.mark.parametrize(
    ("tests", "files", "changed", "word"),
    [
        *[(1, 1, 1, "easy"), (3, 1, 1, "easy"), (4, 1, 1, "medium"), (2, 2, 1, "medium"), (20, 2, 1, "medium")],
        *[(21, 1, 1, "hard"), (3, 3, 1, "hard"), (1, 1, 2, "hard")],
    ],
)
def test_difficulty(tests: int, files: int, changed: int, word: str) -> None:
    assert difficulty_word(tests, files, changed) == word


def test_the_source_of_failing_tests_is_found() -> None:
    text = "import x\n\n\n@mark\ndef test_a(p):\n    assert p\n\n\nclass TestB:\n    def test_c(self):\n        assert x\n"
    found = sources_of_tests({"t.py": text}, ("t.py::test_a[1]", "t.py::test_a[2]", "t.py::TestB::test_c", "t.py::gone"))
    assert found == ["def test_a(p):\n    assert p", "    def test_c(self):\n        assert x"]


def test_a_patch_that_changes_nothing_is_not_empty() -> None:
    assert nothing_changed(0) != nothing_changed(1)
    assert "+++ b/NOTES-1.txt\n" in nothing_changed(1)


ADDS, PLAIN = "tests/test_total.py::test_total_adds_the_tax", "tests/test_total.py::test_total_without_tax"
REACH = TestReach({"tests/test_total.py": FileReach(frozenset({("src/tiny_calc/__init__.py", 1)}), False, 0.5)})
BASELINE = Baseline(SuiteCommand("python3", ("src",)), frozenset({ADDS, PLAIN}), frozenset(), frozenset({"old.py"}), 0.5, REACH)


class ScriptedGrader:
    """Gives the next of its verdicts, or raises it; fails when there are no more."""

    def __init__(self, *script: Verdict | Exception) -> None:
        self.script = list(script)
        self.diffs: list[str] = []

    async def __call__(self, task: Task, diff: str) -> Verdict:
        self.diffs.append(diff)
        verdict = self.script.pop(0)
        if isinstance(verdict, Exception):
            raise verdict
        return verdict


BUG_ALONE = Verdict({ADDS: "failed", PLAIN: "passed"}, False)
GOLD = Verdict({ADDS: "passed", PLAIN: "passed"}, True)


async def validated(folder: Path, grader: ScriptedGrader) -> tuple[Validated | Dropped, list[str]]:
    """The outcome for the sum with a wrong sign, and the images that are left."""
    tree = unpack_package(write_sdist(folder / "tiny_calc-1.5.tar.gz", SDIST), folder / "tree")
    (bug, *_) = [
        bug for bug in candidate_bugs({p: tree.read(p) for p in tree.sources}, ("swapped_operator",), 0) if bug.line == 3
    ]
    noticed = Noticed(BugSet((bug,)), frozenset({ADDS}), {ADDS: "assert 0 == 6"})
    images = FolderImages(folder / "images")
    validation = Validation(tree, BASELINE, images, grader, TemplateWriter(), False, 60.0, folder, seed=0)
    outcome = await validation.validate(noticed)
    assert grader.script == []
    return outcome, [path.name for path in images.root.iterdir()]


async def test_the_bug_is_graded_twice_and_the_gold_patch_once(tmp_path: Path) -> None:
    grader = ScriptedGrader(BUG_ALONE, BUG_ALONE, GOLD)
    outcome, images = await validated(tmp_path, grader)
    assert isinstance(outcome, Validated)
    assert (outcome.task.oracle.fail_to_pass, outcome.task.oracle.pass_to_pass) == ((ADDS,), (PLAIN,))
    assert grader.diffs == [nothing_changed(0), nothing_changed(1), outcome.task.oracle.gold_patch]
    assert images == [outcome.task.instance_id]


async def test_lists_that_change_are_graded_again(tmp_path: Path) -> None:
    grader = ScriptedGrader(BUG_ALONE, Verdict({ADDS: "passed", PLAIN: "passed"}, True), GOLD)
    outcome, images = await validated(tmp_path, grader)
    assert outcome == Dropped("the hidden tests alone do not notice")
    assert images == []


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ((BUG_ALONE, BUG_ALONE, replace(GOLD, resolved=False)), "the gold patch is not graded as resolved"),
        ((BUG_ALONE, replace(BUG_ALONE, resolved=True), GOLD), "the bug alone is graded as resolved"),
        ((BUG_ALONE, BUG_ALONE, Verdict({ADDS: "failed", PLAIN: "passed"}, False)), "the hidden tests alone do not notice"),
        ((BUG_ALONE, BUG_ALONE, Verdict({ADDS: "passed"}, False)), "no hidden test passes with the bug"),
        ((BUG_ALONE, SandboxLostError("gone")), "the sandbox was lost"),
    ],
)
async def test_what_does_not_grade_is_dropped_with_its_image(
    tmp_path: Path, script: tuple[Verdict | Exception, ...], reason: str
) -> None:
    assert await validated(tmp_path, ScriptedGrader(*script)) == (Dropped(reason), [])


async def test_a_grader_that_breaks_leaves_no_image(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"):
        await validated(tmp_path, ScriptedGrader(OSError("disk full")))
    assert list((tmp_path / "images").iterdir()) == []


def run_of(timed_out: bool = False, **status: str) -> SuiteRun:
    words = {
        {"adds": ADDS, "plain": PLAIN, "lost": "tests/lost.py", "old": "old.py"}[name]: word for name, word in status.items()
    }
    return SuiteRun(words, {}, 0, 1, timed_out, 0.1, "")


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (run_of(timed_out=True), "the suite did not end in time"),
        (run_of(adds="FAILED", plain="PASSED", lost="ERROR"), "a test file could not be loaded"),
        (run_of(), "the suite crashed"),
        (run_of(adds="PASSED", plain="PASSED", old="ERROR"), "no test noticed"),
        (run_of(adds="FAILED", plain="FAILED"), "too many tests failed"),
    ],
)
def test_screening_names_why_a_bug_is_dropped(run: SuiteRun, reason: str) -> None:
    screening = Screening("folder:x", BASELINE, 0.5, 2)
    assert screening.judge(BugSet(()), ("tests/test_total.py",), run) == Dropped(reason)


def test_screening_keeps_what_fails_now() -> None:
    noticed = Screening("folder:x", BASELINE, 0.5, 2).judge(
        BugSet(()), ("tests/test_total.py",), run_of(adds="FAILED", plain="PASSED")
    )
    assert isinstance(noticed, Noticed)
    assert (noticed.failing, noticed.files) == ({ADDS}, ("tests/test_total.py",))
