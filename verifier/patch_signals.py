"""What can be found out about candidate patches without the oracle, by running code: the repository's own tests, and the tests
and reproductions that the candidates brought.

A reproduction counts when it fails on the unpatched repository: then it speaks about the issue. Every reproduction of any
candidate is run on every candidate (as CodeT lets tests vote on programs), each on a fresh sandbox in an agent's start state
with one patch applied. Of a patch, what could decide how tests come out (conftest, pytest's configuration, test folders: what
the grader protects, as far as that needs no oracle) is not applied.
"""

import asyncio
import re
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from envpool.git_scrub import apply_patch
from envpool.patch import Patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.problem import Problem
from envpool.sandbox import Sandbox
from verifier.context_reading import Prepare, is_test_file, read_texts, touched_paths, visible_tests
from verifier.patch_sections import PatchSection, patch_sections
from verifier.section_rules import forges_tests, never_graded, without_sections

SETUP_TIMEOUT_S = 60.0
MAX_REPRODUCTIONS = 8
REPRODUCTION = re.compile(r"(?:^|[_.-])(?:repro\w*|reproduce\w*|reproduction)")
TEST_FUNCTION = re.compile(r"^\s*(?:async )?def test_|^class Test|\bunittest\b", re.MULTILINE)


@dataclass(frozen=True)
class PatchSignals:
    """None where nothing could be run. `existing_tests`: share of the nearest existing test files that pass; `reproductions`:
    share of the candidates' new tests that pass here."""

    existing_tests: float | None = None
    reproductions: float | None = None


async def patch_signals(
    problem: Problem, diffs: tuple[str, ...], pool: SandboxPool, timeout_s: float, prepare: Prepare
) -> list[PatchSignals]:
    """The signals of each diff, in order; `timeout_s` bounds one test file. `prepare` brings a sandbox to the state that agents
    start from: set up, and without hidden files. Raises SandboxError."""
    trial = _Trial(problem, pool, timeout_s, prepare)
    telling = await trial.failing_on_base(reproductions_in(diffs))
    return list(await asyncio.gather(*(trial.signals(diff, telling) for diff in diffs)))


def reproductions_in(diffs: tuple[str, ...]) -> dict[str, str]:
    """New test files and reproductions of all patches: path -> diff section that adds it; the first of equal paths counts.

    >>> new = "diff --git a/{0} b/{0}\\nnew file mode 100644\\n--- /dev/null\\n+++ b/{0}\\n@@ -0,0 +1 @@\\n+x\\n"
    >>> list(reproductions_in((new.format("reproduce_bug.py"), new.format("src/a.py"))))
    ['reproduce_bug.py']
    """
    found: dict[str, str] = {}
    for diff in diffs:
        for section in patch_sections(diff):
            if section.adds_file and _is_reproduction(section) and section.paths[-1] not in found:
                found[section.paths[-1]] = section.text
    return dict(list(found.items())[:MAX_REPRODUCTIONS])


def command_for_test(path: str, text: str) -> str:
    """How a test file is run: by pytest when it holds tests, else as a script.

    >>> command_for_test("t.py", "def test_a(): pass"), command_for_test("t.py", "print(1)")
    ('python3 -m pytest -q -x t.py', 'python3 t.py')
    """
    quoted = shlex.quote(path)
    return f"python3 -m pytest -q -x {quoted}" if TEST_FUNCTION.search(text) else f"python3 {quoted}"


def tried_part(diff: str) -> Patch:
    """What is applied of a candidate: nothing that could decide by itself how tests come out."""
    return without_sections(Patch(diff), lambda section: never_graded(section) or forges_tests(section))


@dataclass(frozen=True)
class _Trial:
    """Where patches of one problem are tried."""

    problem: Problem
    pool: SandboxPool
    timeout_s: float
    prepare: Prepare

    async def signals(self, diff: str, reproductions: dict[str, str]) -> PatchSignals:
        """Of one patch; `reproductions` are those that fail without it."""
        patch = tried_part(diff)
        if patch.is_empty:
            return PatchSignals()
        async with self._start_state() as sandbox:
            tests = await read_texts(sandbox, await visible_tests(sandbox, touched_paths(Patch(diff))))
            if not await apply_patch(sandbox, patch, SETUP_TIMEOUT_S):
                return PatchSignals()
            existing = [await self._passes(sandbox, path, text) for path, text in tests.items()]
            own = []
            for path, section in reproductions.items():
                await sandbox.run(f"cd {shlex.quote(sandbox.workdir)} && rm -f -- {shlex.quote(path)}", SETUP_TIMEOUT_S)
                if await apply_patch(sandbox, Patch(section), SETUP_TIMEOUT_S):
                    own.append(await self._passes(sandbox, path, section))
        return PatchSignals(_share(existing), _share(own))

    async def failing_on_base(self, reproductions: dict[str, str]) -> dict[str, str]:
        """Those of the reproductions that fail on the unpatched repository."""
        if not reproductions:
            return {}
        telling = {}
        async with self._start_state() as sandbox:
            for path, section in reproductions.items():
                applied = await apply_patch(sandbox, Patch(section), SETUP_TIMEOUT_S)
                if applied and not await self._passes(sandbox, path, section):
                    telling[path] = section
        return telling

    @asynccontextmanager
    async def _start_state(self) -> AsyncIterator[Sandbox]:
        async with self.pool.lease(self.problem.image, self.problem.workdir) as sandbox:
            await self.prepare(sandbox)
            yield sandbox

    async def _passes(self, sandbox: Sandbox, path: str, text: str) -> bool:
        command = command_for_test(path, re.sub(r"^\+", "", text, flags=re.MULTILINE))
        result = await sandbox.run(f"(cd {shlex.quote(sandbox.workdir)} && {command}) < /dev/null", self.timeout_s)
        return result.exit_code == 0


def _is_reproduction(section: PatchSection) -> bool:
    name = PurePosixPath(section.paths[-1]).name
    return name.endswith(".py") and (is_test_file(name) or REPRODUCTION.search(name) is not None)


def _share(passed: list[bool]) -> float | None:
    return sum(passed) / len(passed) if passed else None
