"""Tasks from a real Python package: break it in one place, keep the bugs that its own tests notice.

The idea of SWE-smith, on a package of the user's own. The package is unpacked, its suite is run twice in a sandbox (tests that
do not pass both times are never used), then one bug after the other is tried. Of a bug that is kept, the test files with
failing tests are taken out of the image and become the oracle's test patch; the gold patch undoes the bug. Both directions
are run once more in the final image, through the very script that will grade.
"""

import asyncio
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from configs.tasks_config import PackageTasksConfig
from envpool.candidate_bugs import CandidateBug, candidate_bugs
from envpool.image_cache import FolderImages
from envpool.oracle import Oracle
from envpool.package_issue import issue_text
from envpool.package_sources import PackageTasksError, PackageTree, unpack_package
from envpool.package_suite import MAX_LOG_BYTES, SuiteCommand, SuiteRun, read_summary, run_suite
from envpool.problem import Problem
from envpool.sandbox import Sandbox
from envpool.sandbox_errors import SandboxLostError
from envpool.sandbox_pool import SandboxPool
from envpool.task import Task
from envpool.test_runtime import RUNTIME_FILE, TestRuntimeError, pack_test_runtime
from envpool.unified_diff import file_diff

__all__ = ["PackageTasksError", "PackageTasksResult", "make_package_tasks"]

WORKDIR = "/testbed"
USAGE_ERROR = 4  # pytest's exit code for options it does not know, for example of a plugin that is not there
MIN_GRADING_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class PackageTasksResult:
    """The tasks, in the order their bugs were tried, and what became of every bug: `tried`, `kept`, and a reason each."""

    tasks: tuple[Task, ...]
    counts: dict[str, int]


@dataclass(frozen=True)
class Baseline:
    """What the unbroken package's suite does: tests that passed twice, files that do not load, how
    to start it, the deadline for a broken one."""

    command: SuiteCommand
    passed: frozenset[str]
    unloadable: frozenset[str]
    timeout_s: float


class _Dropped(Exception):
    """A bug that makes no task; its message is the reason that is counted."""


async def make_package_tasks(
    source: Path, images: FolderImages, pool: SandboxPool, config: PackageTasksConfig, seed: int
) -> PackageTasksResult:
    """Up to `config.max_tasks` tasks from an sdist or a folder, each with its image in `images`.

    Raises PackageTasksError when no task can come of the package at all (unreadable, no tests, suite does not run) and
    SandboxError when sandboxes cannot be started.
    """
    with tempfile.TemporaryDirectory(prefix="swe-master-package-") as folder:
        tree = await asyncio.to_thread(unpack_package, source, Path(folder, "tree"))
        await asyncio.to_thread(_add_runtime, tree, config.test_packages)
        whole = await asyncio.to_thread(images.add_tree, f"whole-{Path(folder).name}", tree.root)
        try:
            baseline = await _baseline(tree, whole, pool, config)
            try:
                bugs = candidate_bugs({path: tree.read(path) for path in tree.sources}, config.operators, seed)
                return await _PackageRun(tree, whole, images, pool, config, baseline, seed).try_bugs(bugs)
            except ValueError as error:
                raise PackageTasksError(f"{tree.name} {tree.version}: {error}") from error
        finally:
            await asyncio.to_thread(shutil.rmtree, images.path(whole), ignore_errors=True)


def _add_runtime(tree: PackageTree, distributions: tuple[str, ...]) -> None:
    if distributions:
        try:
            (tree.root / RUNTIME_FILE).write_bytes(pack_test_runtime(distributions))
        except TestRuntimeError as error:
            raise PackageTasksError(str(error)) from error


async def _baseline(tree: PackageTree, image: str, pool: SandboxPool, config: PackageTasksConfig) -> Baseline:
    import_path = (tree.import_root, *([RUNTIME_FILE] if config.test_packages else []))
    command = SuiteCommand(config.python, import_path)
    async with pool.lease(image, WORKDIR) as sandbox:
        first = await run_suite(sandbox, command, config.test_timeout_s)
        if first.exit_code == USAGE_ERROR:
            command = replace(command, options=("-o", "addopts="))
            first = await run_suite(sandbox, command, config.test_timeout_s)
    where = f"{tree.name} {tree.version}"
    if first.timed_out:
        raise PackageTasksError(
            f"{where}: its suite takes longer than {config.test_timeout_s:g} s (tasks.package.test_timeout_s)"
        )
    if not first.passed:
        raise PackageTasksError(f"{where}: no test of its suite passes here; pytest's last line: {first.last_line}")
    async with pool.lease(image, WORKDIR) as sandbox:
        second = await run_suite(sandbox, command, config.test_timeout_s)
    passed = frozenset(test for test in first.passed & second.passed if _file_of(test) in tree.tests)
    if not passed:
        raise PackageTasksError(f"{where}: no test passes twice in a row in its test files")
    timeout_s = min(config.test_timeout_s, 10.0 + 5.0 * max(first.seconds, second.seconds))
    return Baseline(command, passed, first.unloadable | second.unloadable, timeout_s)


@dataclass(frozen=True)
class _PackageRun:
    """One package's bugs being tried."""

    tree: PackageTree
    whole_image: str
    images: FolderImages
    pool: SandboxPool
    config: PackageTasksConfig
    baseline: Baseline
    seed: int

    async def try_bugs(self, bugs: Iterator[CandidateBug]) -> PackageTasksResult:
        """Try bugs, `concurrency` at a time, until there are enough tasks; the result does not depend on which ends first."""
        tasks: list[Task] = []
        counts: Counter[str] = Counter()
        left = islice(bugs, self.config.max_candidates)
        while len(tasks) < self.config.max_tasks:
            wave = list(islice(left, min(self.config.concurrency, self.config.max_tasks - len(tasks))))
            if not wave:
                break
            outcomes = await asyncio.gather(*map(self._outcome, wave), return_exceptions=True)
            for outcome in outcomes:
                if isinstance(outcome, BaseException) and not isinstance(outcome, _Dropped):
                    raise outcome
                counts["tried"] += 1
                counts["kept" if isinstance(outcome, Task) else str(outcome)] += 1
                if isinstance(outcome, Task):
                    tasks.append(outcome)
        return PackageTasksResult(tuple(tasks), dict(counts))

    async def _outcome(self, bug: CandidateBug) -> Task:
        try:
            run = await self._run_broken(bug)
            return await self._make_task(bug, run, self._hidden_files(run))
        except SandboxLostError as error:
            raise _Dropped("the sandbox was lost") from error

    async def _run_broken(self, bug: CandidateBug) -> SuiteRun:
        async with self.pool.lease(self.whole_image, WORKDIR) as sandbox:
            await sandbox.write_file(f"{WORKDIR}/{bug.path}", bug.after.encode())
            return await run_suite(sandbox, self.baseline.command, self.baseline.timeout_s)

    def _hidden_files(self, run: SuiteRun) -> tuple[str, ...]:
        """Test files with tests that the bug breaks; raises _Dropped when it breaks none, or too much."""
        if run.timed_out:
            raise _Dropped("the suite did not end in time")
        if run.unloadable - self.baseline.unloadable:
            raise _Dropped("a test file could not be loaded")
        if not run.status:
            raise _Dropped("the suite crashed")
        failing = self.baseline.passed - run.passed
        if not failing:
            raise _Dropped("no test noticed")
        if len(failing) > self.config.max_failing_share * len(self.baseline.passed):
            raise _Dropped("too many tests failed")
        return tuple(sorted({_file_of(test) for test in failing}))

    async def _make_task(self, bug: CandidateBug, run: SuiteRun, hidden: tuple[str, ...]) -> Task:
        try:
            hidden_texts = {path: self.tree.read(path).decode() for path in hidden}
        except UnicodeDecodeError as error:
            raise _Dropped("a hidden test file is not UTF-8 text") from error
        digest = hashlib.sha256(f"{bug.path}\0{bug.after}".encode()).hexdigest()[:8]
        instance_id = f"{self.tree.name}__{self.tree.version}.{bug.operator}__{digest}"
        image = await asyncio.to_thread(self._build_image, instance_id, bug, hidden)
        script = self._eval_script(hidden)
        try:
            fail_to_pass, pass_to_pass = await self._graded_tests(image, bug, hidden_texts, script)
        except BaseException:
            shutil.rmtree(self.images.path(image), ignore_errors=True)
            raise
        failing = self.baseline.passed - run.passed
        messages = {test: run.messages.get(test, "") for test in failing}
        problem = Problem(
            instance_id=instance_id,
            repo=self.tree.name,
            base_commit="HEAD",
            image=image,
            workdir=WORKDIR,
            problem_statement=issue_text(self.tree.name, bug, messages, self.seed),
        )
        oracle = Oracle(
            instance_id=instance_id,
            gold_patch=file_diff(bug.path, bug.after, bug.before),
            test_patch="".join(file_diff(path, None, text) for path, text in hidden_texts.items()),
            fail_to_pass=fail_to_pass,
            pass_to_pass=pass_to_pass,
            eval_script=script,
            log_parser="parse_log_pytest",
            timeout_s=max(MIN_GRADING_TIMEOUT_S, self.baseline.timeout_s),
        )
        raw = {key: value for key, value in asdict(bug).items() if key not in ("before", "after")}
        return Task(problem, oracle, "package", "train", "python", self.tree.licence, json.dumps(raw))

    def _build_image(self, name: str, bug: CandidateBug, hidden: tuple[str, ...]) -> str:
        """The broken tree without its hidden test files."""
        with tempfile.TemporaryDirectory(prefix="swe-master-package-") as folder:
            broken = Path(folder, "tree")
            shutil.copytree(self.tree.root, broken, symlinks=True)
            (broken / bug.path).write_bytes(bug.after.encode())
            for path in hidden:
                (broken / path).unlink()
            return self.images.add_tree(name, broken)

    def _eval_script(self, hidden: tuple[str, ...]) -> str:
        lines = [self.baseline.command.script(hidden)]
        if self.config.test_packages:  # a patch must not bring its own pytest
            lines.insert(0, f"git -c safe.directory='*' checkout -q HEAD -- {RUNTIME_FILE}\n")
        return "".join(lines)

    async def _graded_tests(
        self, image: str, bug: CandidateBug, hidden_texts: dict[str, str], script: str
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """FAIL_TO_PASS and PASS_TO_PASS from the grading script itself, before and after the bug is undone."""
        async with self.pool.lease(image, WORKDIR) as sandbox:
            for path, text in hidden_texts.items():
                await sandbox.write_file(f"{WORKDIR}/{path}", text.encode())
            broken = await self._statuses(sandbox, script)
            await sandbox.write_file(f"{WORKDIR}/{bug.path}", bug.before.encode())
            fixed = await self._statuses(sandbox, script)
        stable = {test for test in self.baseline.passed if fixed.get(test) == "PASSED"}
        fail_to_pass = tuple(sorted(test for test in stable if broken.get(test) != "PASSED"))
        pass_to_pass = tuple(sorted(test for test in stable if broken.get(test) == "PASSED"))
        if not fail_to_pass:
            raise _Dropped("the hidden tests alone do not notice")
        if not pass_to_pass:
            raise _Dropped("no hidden test passes with the bug")
        return fail_to_pass, pass_to_pass

    async def _statuses(self, sandbox: Sandbox, script: str) -> dict[str, str]:
        result = await sandbox.run(f"cd {WORKDIR}\n{script}", self.baseline.timeout_s, max_output_bytes=MAX_LOG_BYTES)
        if result.timed_out:
            raise _Dropped("the hidden tests did not end in time")
        return read_summary(result.output)[0]


def _file_of(test: str) -> str:
    return test.partition("::")[0]
