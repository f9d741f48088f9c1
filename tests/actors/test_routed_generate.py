"""Requests whose engine fails, over scripted engines: where they go, and when they are given up."""

from collections.abc import Callable
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
    """Refuses its first `refusals` requests."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.asked = refusals, 0
        self.exchange = Remote(self._exchange)
        self.abort = Remote(lambda request_id: None)

    async def _exchange(self, caller: str, requests: list[EngineRequest]) -> list[Answer]:
        self.asked += 1
        away = self.asked <= self.refusals
        return [(request.request_id, AWAY if away else DONE) for request in requests]


async def test_a_request_waits_for_the_only_engine_to_come_back() -> None:
    policy = RoutedGenerate([ScriptedEngine(refusals=2)], request_timeout_s=10.0)
    assert await policy(REQUEST) is DONE
    assert policy.retries == 2


async def test_another_engine_takes_over_at_once() -> None:
    policy = RoutedGenerate([ScriptedEngine(refusals=9), ScriptedEngine(refusals=0)], request_timeout_s=10.0)
    assert await policy(REQUEST) is DONE
    assert policy.retries == 1


async def test_the_requests_own_deadline_ends_the_waiting() -> None:
    policy = RoutedGenerate([ScriptedEngine(refusals=99)], request_timeout_s=0.5)
    with pytest.raises(EngineUnavailableError, match=r"not started; no engine took its place within 0.5 s"):
        await policy(REQUEST)
