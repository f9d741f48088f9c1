"""From bugs that tests notice to a task that is known to grade: the bugs alone fail, the gold patch resolves.

Of noticed bugs, the test files with failing tests are taken out of the image and become the oracle's test patch; the gold
patch undoes the bugs. The grader that will judge patches (passed in: it belongs to a layer above) then judges three: twice one
that changes nothing, once the gold patch. Tests that do not behave the same way every time are left out of the oracle.
"""

import ast
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

from envpool.oracle import Oracle
from envpool.packages.candidate_bugs import BugSet
from envpool.packages.issue_writer import IssueWriter
from envpool.packages.package_baseline import WORKDIR, Baseline
from envpool.packages.package_issue import IssueFacts
from envpool.packages.package_screening import Dropped, Noticed
from envpool.packages.package_sources import PackageTree
from envpool.packages.package_suite import file_of
from envpool.packages.test_runtime import RUNTIME_FILE
from envpool.patient_thread import in_patient_thread
from envpool.problem import Problem
from envpool.sandbox_errors import SandboxLostError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.task import Task
from envpool.unified_diff import file_diff

NUM_SHOWN_TESTS = 3
NUM_BROKEN_RUNS = 2
"""Gradings of the bugs alone; with the screening, three runs."""


@dataclass(frozen=True)
class Verdict:
    """What the grader says about a patch: a status word per test (`passed`, `failed`, ...), and whether it resolves the task."""

    status: Mapping[str, str]
    resolved: bool


class TaskGrader(Protocol):
    """Grades a diff as any model's patch of this task is graded. Raises SandboxError for what is not the patch's doing."""

    async def __call__(self, task: Task, diff: str) -> Verdict: ...


@dataclass(frozen=True)
class Validated:
    """A task, who wrote its issue, and tests that were left out because they are flaky with the bugs."""

    task: Task
    issue_writer: str
    unstable: tuple[str, ...]


@dataclass(frozen=True)
class SettledTests:
    """The lists of an oracle, sorted; `unstable` tests belong to neither."""

    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    unstable: tuple[str, ...]


def settled_tests(failing: frozenset[str], passing: frozenset[str], broken: list[Verdict], fixed: Verdict) -> SettledTests:
    """What several runs agree on. `failing` and `passing` are what the screening saw with the bugs.

    >>> bad, good = Verdict({"t::a": "failed", "t::b": "passed"}, False), Verdict({"t::a": "passed", "t::b": "passed"}, True)
    >>> settled_tests(frozenset({"t::a"}), frozenset({"t::b"}), [bad], good)
    SettledTests(fail_to_pass=('t::a',), pass_to_pass=('t::b',), unstable=())
    """
    fixed_passed = {test for test in failing | passing if fixed.status.get(test) == "passed"}
    always_fails = {test for test in failing if all(run.status.get(test) != "passed" for run in broken)}
    always_passes = {test for test in passing if all(run.status.get(test) == "passed" for run in broken)}
    unstable = (failing | passing) - (always_fails | always_passes) | (failing | passing) - fixed_passed
    return SettledTests(
        tuple(sorted(always_fails & fixed_passed)), tuple(sorted(always_passes & fixed_passed)), tuple(sorted(unstable))
    )


def difficulty_word(num_failing_tests: int, num_test_files: int, num_changed_files: int) -> str:
    """How hard a task looks from how far its bugs reach.

    `hard`: more than one file must change, or failing tests in more than two files, or more than 20 of them (the cause lies
    deep, the symptoms are everywhere). `easy`: up to three failing tests, all in one file. `medium`: all else.

    >>> difficulty_word(2, 1, 1), difficulty_word(4, 1, 1), difficulty_word(1, 1, 2)
    ('easy', 'medium', 'hard')
    """
    if num_changed_files > 1 or num_test_files > 2 or num_failing_tests > 20:
        return "hard"
    return "easy" if num_failing_tests <= 3 and num_test_files == 1 else "medium"


@dataclass(frozen=True)
class Validation:
    """One package's noticed bugs made into tasks. `timeout_s` is the oracle's deadline (a fixed one: a measured one would make
    every run's tasks different); `folder` is for files that nobody needs afterwards."""

    tree: PackageTree
    baseline: Baseline
    images: FolderImages
    grade: TaskGrader
    write_issue: IssueWriter
    has_runtime: bool
    timeout_s: float
    folder: Path
    seed: int

    async def validate(self, noticed: Noticed) -> Validated | Dropped:
        """The task, its image in the store; or why there is none, and no image."""
        try:
            hidden = {path: self.tree.read(path).decode() for path in noticed.files}
        except UnicodeDecodeError:
            return Dropped("a hidden test file is not UTF-8 text")
        task = self._task(noticed, hidden)
        name = task.instance_id
        image = self.images.root / name
        was_there = image.exists()
        outcome: Validated | Dropped | None = None
        try:
            await in_patient_thread(partial(self._build_image, name, noticed.bugs, tuple(hidden)))
            outcome = await self._graded(task, noticed, hidden)
        finally:
            if not isinstance(outcome, Validated) and not was_there:
                shutil.rmtree(image, ignore_errors=True)
        return outcome

    async def _graded(self, task: Task, noticed: Noticed, hidden: dict[str, str]) -> Validated | Dropped:
        try:
            broken = [await self.grade(task, nothing_changed(number)) for number in range(NUM_BROKEN_RUNS)]
            fixed = await self.grade(task, task.oracle.gold_patch)
            settled = settled_tests(noticed.failing, frozenset(task.oracle.pass_to_pass), broken, fixed)
            if not settled.fail_to_pass:
                return Dropped("the hidden tests alone do not notice")
            if not settled.pass_to_pass:
                return Dropped("no hidden test passes with the bug")
            if settled.unstable:
                oracle = replace(task.oracle, fail_to_pass=settled.fail_to_pass, pass_to_pass=settled.pass_to_pass)
                task = replace(task, oracle=oracle)
                broken = [await self.grade(task, nothing_changed(0))]
                fixed = await self.grade(task, task.oracle.gold_patch)
        except SandboxLostError:
            return Dropped("the sandbox was lost")
        if any(verdict.resolved for verdict in broken):
            return Dropped("the bug alone is graded as resolved")
        if not fixed.resolved:
            return Dropped("the gold patch is not graded as resolved")
        sources = tuple(sources_of_tests(hidden, task.oracle.fail_to_pass))
        messages = {test: noticed.messages[test] for test in settled.fail_to_pass}
        issue = await self.write_issue(IssueFacts(self.tree.name, noticed.bugs, messages, sources, self.seed))
        num_files = len({file_of(test) for test in settled.fail_to_pass})
        word = difficulty_word(len(settled.fail_to_pass), num_files, len(noticed.bugs.changes))
        raw = self._raw(noticed.bugs, settled, issue.writer)
        task = replace(task, problem=replace(task.problem, problem_statement=issue.text), difficulty=word, raw=json.dumps(raw))
        return Validated(task, issue.writer, settled.unstable)

    def _task(self, noticed: Noticed, hidden: dict[str, str]) -> Task:
        """The task as the screening saw it, without an issue."""
        changes = noticed.bugs.changes
        digest = hashlib.sha256("".join(f"{path}\0{after}\0" for path, (_, after) in changes.items()).encode()).hexdigest()[:8]
        name = f"{self.tree.name}__{self.tree.version}.{noticed.bugs.operator}__{digest}"
        files = tuple(hidden)
        problem = Problem(name, self.tree.name, self.tree.commit or "HEAD", f"folder:{name}", WORKDIR, "")
        oracle = Oracle(
            instance_id=name,
            gold_patch="".join(file_diff(path, after, before) for path, (before, after) in changes.items()),
            test_patch="".join(file_diff(path, None, text) for path, text in hidden.items()),
            fail_to_pass=tuple(sorted(noticed.failing)),
            pass_to_pass=tuple(sorted(self.baseline.passed_in(files) - noticed.failing)),
            eval_script=self._eval_script(files),
            log_parser="parse_log_pytest",
            timeout_s=self.timeout_s,
            junit=True,
        )
        return Task(problem, oracle, "package", "train", "python", self.tree.licence, "")

    def _eval_script(self, files: tuple[str, ...]) -> str:
        lines = [self.baseline.command.script(files)]
        if self.has_runtime:  # a patch must not bring its own pytest
            lines.insert(0, f"git -c safe.directory='*' checkout -q HEAD -- {RUNTIME_FILE}\n")
        return "".join(lines)

    def _build_image(self, name: str, bugs: BugSet, hidden: tuple[str, ...]) -> None:
        """The broken tree without its hidden test files."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            broken = Path(folder, "tree")
            shutil.copytree(self.tree.root, broken, symlinks=True, copy_function=_link)
            for path, (_, after) in bugs.changes.items():
                (broken / path).unlink()
                (broken / path).write_bytes(after.encode())
                shutil.copymode(self.tree.root / path, broken / path)
            for path in hidden:
                (broken / path).unlink()
            self.images.add_tree(name, broken)

    def _raw(self, bugs: BugSet, tests: SettledTests, writer: str) -> dict[str, object]:
        files: dict[str, dict[str, int]] = {}
        for key, names in (("fail_to_pass", tests.fail_to_pass), ("pass_to_pass", tests.pass_to_pass)):
            for test in names:
                counts = files.setdefault(file_of(test), {"fail_to_pass": 0, "pass_to_pass": 0})
                counts[key] += 1
        places = [{"operator": bug.operator, "path": bug.path, "function": bug.function, "line": bug.line} for bug in bugs.bugs]
        found = {"package": self.tree.name, "version": self.tree.version, "commit": self.tree.commit, "bugs": places}
        return {**found, "test_files": files, "unstable_tests": list(tests.unstable), "issue": writer}


def nothing_changed(number: int) -> str:
    """A patch that leaves the package as it is (an empty one would not be run)."""
    return file_diff(f"NOTES-{number}.txt", None, "Nothing was changed.\n")


def sources_of_tests(files: Mapping[str, str], tests: tuple[str, ...]) -> list[str]:
    """The source of the first few test functions, without decorators."""
    wanted = list(dict.fromkeys(test.partition("[")[0] for test in tests))[:NUM_SHOWN_TESTS]
    found = []
    for test in wanted:
        file, *_, name = test.split("::")
        text = files.get(file, "")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                found.append("\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno]))
                break
    return found


def _link(source: str, target: str) -> str:
    """A hard link where the file system allows one: the image store copies anyway."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)
    return target
