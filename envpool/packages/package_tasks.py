"""Tasks from a real Python package: break it, keep the bugs that its own tests notice.

The idea of SWE-smith, on a package of the user's own. The package is unpacked and its suite is measured (`package_baseline`); one
bug after the other is tried in a sandbox (`package_screening`); what the tests notice becomes a task and is validated by the
grader itself (`package_validation`). Some of the bugs that were kept on their own are then combined to tasks with several bugs.
"""

import asyncio
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path

from configs.tasks_config import PackageTasksConfig
from envpool.packages.candidate_bugs import BugSet, CandidateBug, bug_combinations, candidate_bugs
from envpool.packages.issue_writer import issue_writer
from envpool.packages.package_baseline import measure_baseline
from envpool.packages.package_screening import Dropped, Noticed, Screening
from envpool.packages.package_sources import PackageTasksError, PackageTree, unpack_package
from envpool.packages.package_validation import TaskGrader, Validated, Validation
from envpool.packages.test_runtime import RUNTIME_FILE, TestRuntimeError, pack_test_runtime
from envpool.patient_thread import in_patient_thread
from envpool.pool.sandbox_pool import SandboxPool
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.task import Task

__all__ = ["PackageTasksError", "PackageTasksResult", "make_package_tasks"]

FOLDER_PREFIX = "swe-master-package-"
MAX_BATCH = 24


@dataclass(frozen=True)
class PackageTasksResult:
    """The tasks, in the order their bugs were tried (single bugs, then combinations); what became of every candidate
    (`tried`, `kept`, and a count for each reason); who wrote the issues; tests that were never used because they are flaky;
    a note on the source, if any."""

    package: str
    tasks: tuple[Task, ...]
    counts: dict[str, int]
    issue_counts: dict[str, int]
    flaky: tuple[str, ...]
    note: str


async def make_package_tasks(
    source: Path, images: FolderImages, pool: SandboxPool, config: PackageTasksConfig, grade: TaskGrader, seed: int
) -> PackageTasksResult:
    """Up to `config.max_tasks` tasks from an sdist, a git checkout or a folder, each with its image in `images`.

    The same arguments give the same tasks (an endpoint's issue texts apart). Raises PackageTasksError when no task can come
    of the package at all (unreadable, no tests, suite does not run) and SandboxError when sandboxes cannot be started.
    """
    if not 0 <= config.combined_share < 1 or config.bugs_per_combination < 2:
        raise PackageTasksError("tasks.package: combined_share is in [0, 1) and bugs_per_combination at least 2")
    _remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=f"{FOLDER_PREFIX}{os.getpid()}-") as folder:
        tree = await in_patient_thread(partial(unpack_package, source, Path(folder, "tree")))
        await in_patient_thread(partial(_add_runtime, tree, config.test_packages))
        whole = f"whole-{Path(folder).name}"
        writer = issue_writer(config.issue)
        try:
            await in_patient_thread(partial(images.add_tree, whole, tree.root))
            bugs = candidate_bugs({path: tree.read(path) for path in tree.sources}, config.operators, seed)
            first = await in_patient_thread(partial(next, bugs, None))
            if first is None:
                raise PackageTasksError(f"{tree.name} {tree.version}: none of the bug operators finds a place in its code")
            baseline = await measure_baseline(tree, f"folder:{whole}", pool, config)
            screening = Screening(f"folder:{whole}", baseline, config.max_failing_share, config.concurrency)
            has_runtime = bool(config.test_packages)
            validation = Validation(tree, baseline, images, grade, writer, has_runtime, config.test_timeout_s, Path(folder), seed)
            run = _PackageRun(screening, validation, pool)
            await run.make(_chained(first, bugs), config, seed)
        except ValueError as error:
            if isinstance(error, PackageTasksError):
                raise
            raise PackageTasksError(f"{tree.name} {tree.version}: {error}") from error
        finally:
            shutil.rmtree(images.root / whole, ignore_errors=True)
            await writer.close()
    package = f"{tree.name} {tree.version}"
    return PackageTasksResult(
        package, tuple(run.tasks), dict(run.counts), dict(run.issue_counts), tuple(sorted(baseline.flaky)), tree.note
    )


def _chained(first: CandidateBug, rest: Iterator[CandidateBug]) -> Iterator[CandidateBug]:
    yield first
    yield from rest


def _add_runtime(tree: PackageTree, distributions: tuple[str, ...]) -> None:
    if distributions:
        try:
            (tree.root / RUNTIME_FILE).write_bytes(pack_test_runtime(distributions))
        except TestRuntimeError as error:
            raise PackageTasksError(str(error)) from error


def _remove_abandoned() -> None:
    """Remove the folders of processes that were killed before they could do it themselves."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*"):
        pid = folder.name.removeprefix(FOLDER_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _PackageRun:
    """One package's bugs being tried; what came of it so far."""

    screening: Screening
    validation: Validation
    pool: SandboxPool
    tasks: list[Task] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    issue_counts: Counter[str] = field(default_factory=Counter)

    async def make(self, bugs: Iterator[CandidateBug], config: PackageTasksConfig, seed: int) -> None:
        """Single bugs first, then combinations of those that were kept; where these are too few, more single ones."""
        num_combined = round(config.max_tasks * config.combined_share)
        singles = (BugSet((bug,)) for bug in islice(bugs, config.max_candidates))
        spare: list[Noticed] = []
        kept = await self._keep(singles, spare, config.max_tasks - num_combined)
        combinations = bug_combinations(tuple(one.bugs[0] for one in kept), config.bugs_per_combination, seed)
        spare_combinations: list[Noticed] = []
        await self._keep(islice(combinations, 2 * num_combined), spare_combinations, num_combined)
        await self._keep(singles, spare, config.max_tasks - len(self.tasks))
        self.counts["not needed"] += len(spare) + len(spare_combinations)

    async def _keep(self, candidates: Iterator[BugSet], spare: list[Noticed], wanted: int) -> list[BugSet]:
        """Try candidates in their order until `wanted` of them are tasks; those that are. Noticed ones that are not needed
        are put into `spare`, and what is there already comes first."""
        kept: list[BugSet] = []
        while len(kept) < wanted:
            if not spare and not await self._screen_some(candidates, spare, min(MAX_BATCH, 2 * (wanted - len(kept)))):
                break
            wave = spare[: wanted - len(kept)]
            del spare[: len(wave)]
            outcomes = await asyncio.gather(*map(self.validation.validate, wave), return_exceptions=True)
            for one, outcome in zip(wave, outcomes, strict=True):
                if isinstance(outcome, BaseException):
                    raise outcome
                if isinstance(outcome, Validated):
                    kept.append(one.bugs)
                self._count(one.bugs, outcome)
        return kept

    async def _screen_some(self, candidates: Iterator[BugSet], spare: list[Noticed], size: int) -> bool:
        """Screen up to `size` candidates; False when there are none left."""
        batch: list[BugSet] = await in_patient_thread(partial(list, islice(candidates, size)))
        outcomes = await self.screening.screen(batch, self.pool) if batch else []
        for outcome in outcomes:
            self.counts["tried"] += 1
            if isinstance(outcome, Dropped):
                self.counts[outcome.reason] += 1
            else:
                spare.append(outcome)
        return bool(batch)

    def _count(self, bugs: BugSet, outcome: Validated | Dropped) -> None:
        if isinstance(outcome, Dropped):
            self.counts[outcome.reason] += 1
            return
        self.tasks.append(outcome.task)
        self.counts["kept"] += 1
        self.counts["kept, with several bugs"] += len(bugs.bugs) > 1
        self.counts["tests left out as flaky with the bug"] += len(outcome.unstable)
        self.issue_counts[outcome.issue_writer] += 1
