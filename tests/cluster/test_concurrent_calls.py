"""Calls that run together end together: nobody writes into what the caller has closed."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from actors.group_request import GroupRequest
from cluster.concurrent_calls import all_at_once
from cluster.episode_playing import play_mixed
from configs.run_config import RunConfig
from envpool.sandbox_errors import SandboxUnavailableError
from tests.verifier.small_repo import TASK
from verifier.reward import Group


async def test_results_come_in_the_order_of_the_calls() -> None:
    second_is_done = asyncio.Event()

    async def first() -> int:
        await second_is_done.wait()
        return 1

    async def second() -> int:
        second_is_done.set()
        return 2

    assert await all_at_once(call() for call in (first, second)) == [1, 2]
    assert await all_at_once([]) == []


async def test_the_others_have_ended_when_one_has_failed() -> None:
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("the other")

    async def fails() -> None:
        await asyncio.sleep(0)
        raise KeyError("label")

    with pytest.raises(KeyError, match="label"):
        await all_at_once([waits(), fails()])
    assert ended == ["the other"]


async def test_a_policy_that_cannot_play_ends_the_episodes_of_the_others() -> None:
    ended: list[str] = []

    async def play(request: GroupRequest) -> Group:
        if request.policy == "broken":
            raise SandboxUnavailableError("no worker")
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(request.policy)
        raise AssertionError("unreachable")

    context: Any = SimpleNamespace(config=RunConfig(), fleet=SimpleNamespace(play=play))
    with pytest.raises(SandboxUnavailableError, match="no worker"):
        await play_mixed(context, "rollout", TASK, ["careful", "broken"], 2, 1.0)
    assert ended == ["careful"]
