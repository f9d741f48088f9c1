"""One grading per distinct patch, whoever asks and whoever gives up."""

import asyncio

import pytest

from envpool.patch import Patch
from envpool.sandbox_errors import SandboxLostError
from verifier.grade_cache import GradeCache, GradedPatch
from verifier.test_report import TestReport

GRADED = GradedPatch(TestReport("a", {}, True, True, 0, ""), None)
PATCH = Patch("diff")


class Grader:
    """Counts its runs; ends when `gate` opens."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.runs = self.cancelled = 0

    async def __call__(self) -> GradedPatch:
        self.runs += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return GRADED


async def test_equal_patches_are_graded_once() -> None:
    cache, grader = GradeCache(), Grader()
    asking = [asyncio.create_task(cache.graded("a", Patch("diff"), grader)) for _ in range(5)]
    await asyncio.sleep(0)
    grader.gate.set()
    assert await asyncio.gather(*asking) == [GRADED] * 5
    assert await cache.graded("a", PATCH, grader) == GRADED
    assert (grader.runs, cache.num_graded, cache.num_shared) == (1, 1, 5)
    await cache.graded("b", PATCH, grader)
    await cache.graded("a", Patch("other"), grader)
    assert grader.runs == 3


async def test_a_failure_goes_to_all_who_wait_and_is_not_kept() -> None:
    cache = GradeCache()

    async def broken() -> GradedPatch:
        await asyncio.sleep(0)
        raise SandboxLostError("gone")

    asking = [asyncio.create_task(cache.graded("a", PATCH, broken)) for _ in range(2)]
    assert [type(result) for result in await asyncio.gather(*asking, return_exceptions=True)] == [SandboxLostError] * 2
    grader = Grader()
    grader.gate.set()
    assert await cache.graded("a", PATCH, grader) == GRADED


async def test_one_who_gives_up_does_not_disturb_the_others() -> None:
    cache, grader = GradeCache(), Grader()
    first, second = (asyncio.create_task(cache.graded("a", PATCH, grader)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    grader.gate.set()
    assert await second == GRADED
    assert (grader.runs, grader.cancelled) == (1, 0)


async def test_a_grading_nobody_waits_for_ends() -> None:
    cache, grader = GradeCache(), Grader()
    asking = asyncio.create_task(cache.graded("a", PATCH, grader))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert grader.cancelled == 1
    grader.gate.set()
    assert await cache.graded("a", PATCH, grader) == GRADED


async def test_the_oldest_report_goes_first() -> None:
    cache, grader = GradeCache(max_entries=2), Grader()
    grader.gate.set()
    for diff in ("1", "2", "3", "3", "1"):
        await cache.graded("a", Patch(diff), grader)
    assert grader.runs == 4
