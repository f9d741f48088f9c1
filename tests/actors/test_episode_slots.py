"""Groups take all their episodes' slots together; token shares of learner ranks are even."""

import asyncio

import pytest

from actors.episode_slots import LETS_PASS, EpisodeSlots
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


class Order:
    """Groups that wait for slots and end when told; `began` lists them as they got theirs."""

    def __init__(self, total: int) -> None:
        self.slots, self.began = EpisodeSlots(total), list[str]()
        self._over: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def come(self, name: str, count: int) -> None:
        """A group of `count` episodes; one whose name begins with e is an evaluation."""
        self._over[name] = asyncio.Event()
        self._tasks.append(asyncio.create_task(self._play(name, count)))
        await self.settle()

    async def end(self, *names: str) -> None:
        for name in names:
            self._over[name].set()
        await self.settle()

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def _play(self, name: str, count: int) -> None:
        async with self.slots.take(count, evaluation=name.startswith("e")):
            self.began.append(name)
            await self._over[name].wait()

    async def finish(self) -> None:
        await self.end(*self._over)
        await asyncio.gather(*self._tasks)


async def test_training_groups_go_before_evaluations_that_waited_longer() -> None:
    order = Order(4)
    for name, count in (("t0", 4), ("e0", 1), ("e1", 1), ("t1", 2), ("t2", 4)):
        await order.come(name, count)
    assert order.began == ["t0"]
    await order.end("t0")
    assert order.began == ["t0", "t1"]  # t2 needs all slots, and no evaluation takes one before it
    await order.end("t1")
    assert order.began == ["t0", "t1", "t2"]
    await order.end("t2")
    assert order.began == ["t0", "t1", "t2", "e0", "e1"]
    await order.finish()


async def test_evaluations_leave_half_of_the_slots_to_training_that_comes_later() -> None:
    order = Order(8)
    for index in range(6):
        await order.come(f"e{index}", 1)
    assert order.began == ["e0", "e1", "e2", "e3"]
    await order.come("t0", 4)
    assert order.began[-1] == "t0"
    await order.end("e0", "t0")
    assert order.began[-1] == "e4"
    await order.finish()


async def test_one_evaluation_group_may_be_larger_than_half() -> None:
    order = Order(4)
    await order.come("e0", 3)
    await order.come("e1", 1)
    assert order.began == ["e0"]
    await order.finish()
    assert order.began == ["e0", "e1"]


async def test_an_evaluation_is_played_although_training_always_fills_the_slots() -> None:
    order = Order(1)
    await order.come("t0", 1)
    await order.come("e0", 1)
    for index in range(1, LETS_PASS + 3):
        await order.come(f"t{index}", 1)
    for index in range(LETS_PASS + 1):
        await order.end(f"t{index}")
    assert order.began == [*(f"t{index}" for index in range(LETS_PASS + 1)), "e0"]
    await order.finish()


def test_ranks_get_similar_numbers_of_tokens() -> None:
    two = LearnerConfig(num_ranks=2, tokens_per_micro_batch=40)
    assert plan_for_ranks([30, 10, 20], two) == [[[0]], [[2, 1]]]
    assert plan_for_ranks([], two) == [[], []]
    assert plan_for_ranks([7], LearnerConfig(num_ranks=3)) == [[[0]], [], []]
    pairs = LearnerConfig(num_ranks=4, sequence_parallel=2, tokens_per_micro_batch=40)
    assert plan_for_ranks([30, 10, 20], pairs) == [[[0]], [[0]], [[2, 1]], [[2, 1]]]
