"""What an unbroken package's suite does: which tests can be relied on, and which files notice what."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

from configs.tasks_config import PackageTasksConfig
from envpool.packages.package_sources import PackageTasksError, PackageTree
from envpool.packages.package_suite import SuiteCommand, SuiteRun, file_of, run_suite
from envpool.packages.test_reach import FileReach, TestReach, trace_file
from envpool.packages.test_runtime import RUNTIME_FILE
from envpool.pool.sandbox_pool import SandboxPool

WORKDIR = "/testbed"
USAGE_ERROR = 4  # pytest's exit code for options it does not know, for example of a plugin that is not there
NUM_RUNS = 3
"""A test that does not pass in every one of so many runs is flaky, or fails: it is never used."""


@dataclass(frozen=True)
class Baseline:
    """Tests that always passed, tests that passed only sometimes, files that do not load, seconds of one run, how to start
    the suite, what each test file reaches."""

    command: SuiteCommand
    passed: frozenset[str]
    flaky: frozenset[str]
    unloadable: frozenset[str]
    seconds: float
    reach: TestReach

    def passed_in(self, files: tuple[str, ...]) -> frozenset[str]:
        """Reliable tests of some files."""
        return frozenset(test for test in self.passed if file_of(test) in files)

    def timeout_s(self, files: tuple[str, ...]) -> float:
        """Deadline of some files in a broken tree: generous for slow ones, short for most (many bugs make endless loops)."""
        return 5.0 + 3.0 * min(self.seconds, self.reach.seconds(files))


async def measure_baseline(tree: PackageTree, image: str, pool: SandboxPool, config: PackageTasksConfig) -> Baseline:
    """Run the suite three times, then each test file once under the tracer. Raises PackageTasksError: nothing can be used."""
    where = f"{tree.name} {tree.version}"
    runtime = RUNTIME_FILE if config.test_packages else ""
    command = SuiteCommand(config.python, (tree.import_root,), runtime)
    async with pool.lease(image, WORKDIR) as sandbox:
        first = await run_suite(sandbox, command, config.test_timeout_s)
        if first.exit_code == USAGE_ERROR:
            command = replace(command, options=("-o", "addopts="))
            first = await run_suite(sandbox, command, config.test_timeout_s)
    if first.timed_out:
        raise PackageTasksError(
            f"{where}: its suite takes longer than {config.test_timeout_s:g} s (tasks.package.test_timeout_s)"
        )
    if not first.passed:
        raise PackageTasksError(f"{where}: no test of its suite passes here; pytest's last line: {first.last_line}")
    runs = [first]
    for _ in range(NUM_RUNS - 1):
        async with pool.lease(image, WORKDIR) as sandbox:
            runs.append(await run_suite(sandbox, command, config.test_timeout_s))
    passed, flaky = reliable_tests(runs, tree.tests)
    if not passed:
        raise PackageTasksError(f"{where}: no test passes {NUM_RUNS} times in a row in its test files")
    reach = await _reach(sorted({file_of(test) for test in passed}), command, image, pool, config)
    unloadable = frozenset().union(*(run.unloadable for run in runs))
    return Baseline(command, passed, flaky, unloadable, max(run.seconds for run in runs), reach)


def reliable_tests(runs: list[SuiteRun], files: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """Tests of these files that passed in every run, and those that passed in some only."""
    always = frozenset.intersection(*(run.passed for run in runs))
    sometimes = frozenset().union(*(run.passed for run in runs)) - always
    return frozenset(test for test in always if file_of(test) in files), sometimes


async def _reach(files: list[str], command: SuiteCommand, image: str, pool: SandboxPool, config: PackageTasksConfig) -> TestReach:
    found: dict[str, FileReach] = {}
    queue = iter(files)

    async def work(queue: Iterator[str]) -> None:
        async with pool.lease(image, WORKDIR) as sandbox:
            for file in queue:
                found[file] = await trace_file(sandbox, command, file, config.test_timeout_s)

    for outcome in await asyncio.gather(*(work(queue) for _ in range(config.concurrency)), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
    return TestReach({file: found[file] for file in files})
