"""Requests whose engine fails, over scripted engines: where they go, and when they are given up."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from actors.engine_failure import EngineUnavailableError, Failure
from actors.engine_mailbox import Answer, EngineRequest
from actors.routed_generate import RoutedGenerate
from envpool.policy import Completion, GenerateRequest

AWAY = Failure("vLLM engine cannot be used: not started", may_retry=True)
REQUEST = GenerateRequest("a", (), np.zeros(2, np.int32), 8, 1.0, seed=0)
DONE = Completion(np.zeros(1, np.int32), np.zeros(1, np.float32), np.zeros(1, np.int32), "stop")


class Remote:
    """A method of an actor."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.remote = method


class ScriptedEngine:
    """Refuses its first `refusals` requests, each after `seconds`."""

    def __init__(self, refusals: int, seconds: float = 0.0) -> None:
        self.refusals, self.seconds, self.asked = refusals, seconds, 0
        self.exchange = Remote(self._exchange)
        self.reached = asyncio.Event()
        self.aborted: list[str] = []
        self.abort = Remote(self.aborted.append)

    async def _exchange(self, caller: str, requests: list[EngineRequest]) -> list[Answer]:
        self.asked += 1
        self.reached.set()
        away = self.asked <= self.refusals
        await asyncio.sleep(self.seconds if away else 0)
        return [(request.request_id, AWAY if away else DONE) for request in requests]


async def test_a_request_waits_for_the_only_engine_to_come_back() -> None:
    policy = RoutedGenerate([ScriptedEngine(refusals=2)], request_timeout_s=10.0)
    assert await policy(REQUEST) is DONE
    assert policy.retries == 2


async def test_another_engine_takes_over_at_once() -> None:
    policy = RoutedGenerate([ScriptedEngine(refusals=9), ScriptedEngine(refusals=0)], request_timeout_s=10.0)
    assert await policy(REQUEST) is DONE
    assert policy.retries == 1


async def test_a_request_that_is_cancelled_does_not_make_a_hung_engine_up_again() -> None:
    """Another request there has run into its deadline, and then the episode of this one ends."""
    hung, other = ScriptedEngine(refusals=9, seconds=60.0), ScriptedEngine(refusals=0)
    policy = RoutedGenerate([hung, other], request_timeout_s=60.0)
    waiting = asyncio.create_task(policy(REQUEST))
    await hung.reached.wait()
    policy._router.in_flight[0] += 1
    policy._router.end(0, succeeded=False, now=time.monotonic())
    waiting.cancel()
    await asyncio.wait([waiting])
    assert len(hung.aborted) == 1
    assert policy._router.num_up(time.monotonic()) == 1
    assert await policy(replace(REQUEST, session_id="new")) is DONE
    assert hung.asked == 1


async def test_the_requests_own_deadline_ends_the_waiting() -> None:
    policy = RoutedGenerate([ScriptedEngine(refusals=99)], request_timeout_s=0.5)
    with pytest.raises(EngineUnavailableError, match=r"not started; no engine took its place within 0.5 s"):
        await policy(REQUEST)
