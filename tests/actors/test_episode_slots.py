"""Groups take all their episodes' slots together; token shares of learner ranks are even."""

import asyncio

import pytest

from actors.episode_slots import EpisodeSlots
from actors.learner_group import plan_for_ranks
from configs.optimizer_config import LearnerConfig


async def test_no_more_episodes_than_slots_run_at_once() -> None:
    slots, running, most = EpisodeSlots(8), 0, 0

    async def group(size: int) -> None:
        nonlocal running, most
        async with slots.take(size):
            running += size
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= size

    async with asyncio.timeout(10):
        await asyncio.gather(*(group(size) for size in [3, 5, 8, 1, 2, 6, 4, 8, 7, 3]))
    assert (running, most) == (0, 8)


async def test_a_group_larger_than_all_slots_runs_alone() -> None:
    slots = EpisodeSlots(2)
    async with asyncio.timeout(10), slots.take(5):
        waiting = asyncio.create_task(asyncio.wait_for(slots.take(1).__aenter__(), 0.01))
        with pytest.raises(TimeoutError):
            await waiting


async def test_a_cancelled_wait_gives_its_slots_back() -> None:
    slots = EpisodeSlots(3)
    async with slots.take(2):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(slots.take(2).__aenter__(), 0.01)
    async with asyncio.timeout(10), slots.take(3):
        pass


def test_ranks_get_similar_numbers_of_tokens() -> None:
    two = LearnerConfig(num_ranks=2, tokens_per_micro_batch=40)
    assert plan_for_ranks([30, 10, 20], two) == [[[0]], [[2, 1]]]
    assert plan_for_ranks([], two) == [[], []]
    assert plan_for_ranks([7], LearnerConfig(num_ranks=3)) == [[[0]], [], []]
    pairs = LearnerConfig(num_ranks=4, sequence_parallel=2, tokens_per_micro_batch=40)
    assert plan_for_ranks([30, 10, 20], pairs) == [[[0]], [[0]], [[2, 1]], [[2, 1]]]
