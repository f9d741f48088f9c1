"""What the learner's group hands to engines that come back late, over scripted ranks. No Ray is started."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from actors.learner_group import LearnerGroup
from actors.weight_packing import WeightsGoneError
from configs.optimizer_config import LearnerConfig, OptimizerConfig
from trainers.loss_spec import LossSpec


async def value(result: Any) -> Any:
    return result


class ScriptedRank:
    """A rank of two buckets. Its calls are noted."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def __getattr__(self, method: str) -> Any:
        rank = self

        class Remote:
            @staticmethod
            def options(num_returns: int) -> Any:
                return Remote

            @staticmethod
            def remote(*arguments: Any) -> Any:
                rank.calls.append((method, arguments[0] if arguments else None))
                if method == "packed_bucket":
                    return value(2), f"bucket {arguments[1]}"
                if method == "connect_natively":
                    rank.calls[-1] = (method, arguments[1])
                return value(("10.0.0.1", 2345) if method == "meeting_point" else {})

        return Remote


class ScriptedPool:
    """An engine pool that only remembers what it was told."""

    native_backend, workers_per_engine, generation = "nccl", 1, 0
    handles = ("engine 0", "engine 1", "engine 2")

    def __init__(self) -> None:
        self.taking = [0, 1, 2]
        self.later: Callable[[], AsyncIterator[str]]

    async def update_natively(
        self, send: Callable[[list[int]], Awaitable[None]], later: Callable[[], AsyncIterator[str]], version: int
    ) -> float:
        await send(self.taking)
        self.later = later
        return 0.0


def group_and_pool() -> tuple[LearnerGroup, Any, ScriptedRank]:
    rank = ScriptedRank()
    return LearnerGroup([rank], LearnerConfig()), ScriptedPool(), rank


async def test_while_the_learner_holds_a_version_an_engine_gets_it_again() -> None:
    group, pool, _ = group_and_pool()
    await group.sync_weights(pool, 3)
    assert [ref async for ref in pool.later()] == ["bucket 0", "bucket 1"]


@pytest.mark.parametrize("change", ["train_step", "load", "reset", "closed"])
async def test_later_weights_are_never_handed_out_under_an_earlier_version(change: str) -> None:
    group, pool, rank = group_and_pool()
    await group.sync_weights(pool, 3)
    given = pool.later()
    assert await anext(given) == "bucket 0"
    if change == "train_step":
        await group.train_step([], LossSpec("clip_higher"))
    elif change == "load":
        await group.load(Path("step_1"))
    elif change == "reset":
        await group.reset("model", OptimizerConfig(), 4, 0.7)
        assert group.temperature == 0.7
    else:
        group.ranks = []
    rank.calls.clear()
    with pytest.raises(WeightsGoneError, match="the learner does not hold version 3 any more"):
        await anext(given)
    with pytest.raises(WeightsGoneError):
        await anext(pool.later())
    assert rank.calls == []


async def test_a_transfer_group_holds_the_engines_that_are_up_and_is_kept_while_they_are() -> None:
    group, pool, rank = group_and_pool()
    for taking in ([0, 2], [0, 2], [0, 1, 2]):
        pool.taking = taking
        await group.sync_weights(pool, 3)
    joined = [handles for method, handles in rank.calls if method == "connect_natively"]
    assert joined == [["engine 0", "engine 2"], ["engine 0", "engine 1", "engine 2"]]
