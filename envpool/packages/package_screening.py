"""Which bugs a package's tests notice: many bugs one after the other in one sandbox, put back by git in between.

This is the cheap look. What passes it is made a task and validated in fresh sandboxes (envpool.packages.package_validation).
"""

import asyncio
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from envpool.git_scrub import GIT
from envpool.packages.candidate_bugs import BugSet
from envpool.packages.package_baseline import WORKDIR, Baseline
from envpool.packages.package_suite import SuiteRun, file_of, run_suite
from envpool.pool.sandbox_pool import SandboxPool
from envpool.sandbox import Sandbox
from envpool.sandbox_errors import SandboxLostError

RESTORE_S = 60.0


@dataclass(frozen=True)
class Noticed:
    """Bugs that some tests notice: reliable tests that fail now, with pytest's messages, and their files."""

    bugs: BugSet
    failing: frozenset[str]
    messages: dict[str, str]

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(sorted({file_of(test) for test in self.failing}))


@dataclass(frozen=True)
class Dropped:
    """Bugs that make no task, and why; the reason is counted."""

    reason: str


@dataclass(frozen=True)
class Screening:
    """The unbroken package's image, its baseline, and the largest share of its tests that a bug may break."""

    image: str
    baseline: Baseline
    max_failing_share: float
    concurrency: int

    async def screen(self, candidates: list[BugSet], pool: SandboxPool) -> list[Noticed | Dropped]:
        """One outcome per candidate, in their order. Raises SandboxError when no sandbox can be started."""
        outcomes: dict[int, Noticed | Dropped] = {}
        queue = iter(enumerate(candidates))
        workers = [self._work(queue, outcomes, pool) for _ in range(min(self.concurrency, len(candidates)))]
        for ended in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(ended, BaseException):
                raise ended
        return [outcomes[index] for index in range(len(candidates))]

    async def _work(self, queue: Iterator[tuple[int, BugSet]], outcomes: dict[int, Noticed | Dropped], pool: SandboxPool) -> None:
        """Screen from the queue; a sandbox is used on as long as git can put it back."""
        open_item = next(queue, None)
        while open_item is not None:
            async with pool.lease(self.image, WORKDIR) as sandbox:
                fresh = True
                while open_item is not None and fresh:
                    index, bugs = open_item
                    try:
                        outcomes[index], fresh = await self._screen_in(sandbox, bugs)
                    except SandboxLostError:
                        outcomes[index], fresh = Dropped("the sandbox was lost"), False
                    open_item = next(queue, None)

    async def _screen_in(self, sandbox: Sandbox, bugs: BugSet) -> tuple[Noticed | Dropped, bool]:
        """The outcome, and whether the sandbox is as it was before."""
        files = self.baseline.reach.files_of(bugs)
        if not files:
            return Dropped("no test reaches it"), True
        for path, (_, after) in bugs.changes.items():
            await sandbox.write_file(f"{WORKDIR}/{path}", after.encode())
        run = await run_suite(sandbox, self.baseline.command, self.baseline.timeout_s(files), files)
        outcome = self.judge(bugs, files, run)
        if run.timed_out:
            return outcome, False
        restore = f"cd {shlex.quote(WORKDIR)} && {GIT} reset -q --hard HEAD && {GIT} clean -q -ffdx"
        return outcome, (await sandbox.run(restore, RESTORE_S)).exit_code == 0

    def judge(self, bugs: BugSet, files: tuple[str, ...], run: SuiteRun) -> Noticed | Dropped:
        """What a run of these files says about the bugs."""
        if run.timed_out:
            return Dropped("the suite did not end in time")
        if run.unloadable - self.baseline.unloadable:
            return Dropped("a test file could not be loaded")
        if not run.status:
            return Dropped("the suite crashed")
        failing = self.baseline.passed_in(files) - run.passed
        if not failing:
            return Dropped("no test noticed")
        if len(failing) > self.max_failing_share * len(self.baseline.passed):
            return Dropped("too many tests failed")
        return Noticed(bugs, failing, {test: run.messages.get(test, "") for test in failing})
