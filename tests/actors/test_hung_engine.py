"""An engine that hangs, is away, or lets a request wait when an episode's time ends: that is never the episode's DEADLINE.

Real actor class, mailbox, admission gate and policy; only vLLM is a double that makes a decoding step when the test says so."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ray.exceptions import RayActorError

from actors.engine_actor import EngineActor
from actors.engines.engine_gauges import EngineGauges
from actors.routed_generate import RoutedGenerate
from configs.rollout_config import EpisodeConfig
from envpool.action_format import ToolCall, render_action
from envpool.agent.episode import run_episode, sample_within
from envpool.policy import Completion, GenerateRequest, IntArray, PolicyError
from envpool.problem import Problem
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox, said
from envpool.trajectory import StopReason, Trajectory
from tests.envpool.agent.agent_doubles import CHAT

PROBLEM = Problem("demo-1", "demo", "c0", "folder:demo", "/testbed", "area should add w and h")
SUBMIT = CHAT.completion_ids(render_action(ToolCall("submit", {})))
REQUEST = GenerateRequest("s", (), np.zeros(2, np.int32), 8, 1.0, seed=0)


class SteppedEngine(EngineActor):
    """Decodes when told. Its clock is the test's; a request ends with submit, or with `error`, when `finish` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.gauges.clock = lambda: self.now
        self.gauges.longest_step_s = 5.0
        self.begun, self.finish = asyncio.Event(), asyncio.Event()
        self.error: Exception | None = None

    async def generate(self, request_id: str, prompt_ids: IntArray, max_tokens: int, temperature: float, seed: int) -> Completion:
        self.gauges.begin()
        self.begun.set()
        await self.finish.wait()
        if self.error is not None:
            raise self.error
        return Completion(SUBMIT, np.zeros(len(SUBMIT), np.float32), np.zeros(len(SUBMIT), np.int32), "stop")

    def step(self, seconds: float) -> None:
        self.now += seconds
        self.gauges.step(0.1, 1, 0, 0, 0, 0)

    def stats_of_gate(self) -> tuple[int, int]:
        """Requests that run and that wait."""
        return self._gate.running, self._gate.waiting


class Remote:
    """A method of an actor."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method, self.asked, self.answered = method, 0, 0

    async def _call(self, *args: Any) -> Any:
        self.asked += 1
        answer = await self.method(*args)
        self.answered += 1
        return answer

    def remote(self, *args: Any) -> "asyncio.Future[Any]":
        return asyncio.ensure_future(self._call(*args))


class Handle:
    """The actor handle of a SteppedEngine."""

    def __init__(self, engine: SteppedEngine) -> None:
        self.exchange, self.abort, self.model_s = Remote(engine.exchange), Remote(engine.abort), Remote(engine.model_s)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def play(policy: RoutedGenerate, episode_timeout_s: float) -> Trajectory:
    config = EpisodeConfig(max_tokens=4000, episode_timeout_s=episode_timeout_s, tool_timeout_s=episode_timeout_s / 2)
    sandbox = ScriptedSandbox({}, lambda command: said(""))
    return await run_episode(  # its own clock stands still: only the requests' time counts
        PROBLEM, sandbox, policy, CHAT, config, sample_index=0, policy_name="engine", temperature=1.0, seed=0, clock=lambda: 0.0
    )


async def test_a_request_that_hangs_at_the_deadline_ends_as_the_engines_failure() -> None:
    engine = SteppedEngine()
    engine.gauges.longest_step_s = 0.0
    handle = Handle(engine)
    playing = asyncio.create_task(play(RoutedGenerate([handle], request_timeout_s=60.0), episode_timeout_s=0.1))
    await until(lambda: handle.model_s.answered)
    engine.error = PolicyError("its engine core died")
    engine.finish.set()
    with pytest.raises(PolicyError, match="its engine core died"):
        await playing


async def test_a_request_that_hangs_for_ever_ends_with_its_own_deadline() -> None:
    engine = SteppedEngine()
    engine.gauges.longest_step_s = 0.0
    with pytest.raises(PolicyError, match=r"engine 0 gave no completion within 0.3 s"):
        await play(RoutedGenerate([Handle(engine)], request_timeout_s=0.3), episode_timeout_s=0.1)


async def test_a_request_that_hangs_at_the_deadline_goes_on_when_the_engine_does() -> None:
    engine = SteppedEngine()
    engine.gauges.longest_step_s = 0.0
    handle = Handle(engine)
    playing = asyncio.create_task(play(RoutedGenerate([handle], request_timeout_s=60.0), episode_timeout_s=0.1))
    await until(lambda: handle.model_s.answered >= 2)
    engine.finish.set()
    assert (await playing).stop_reason is StopReason.SUBMITTED


async def test_a_hang_that_begins_just_before_the_deadline_is_noticed() -> None:
    """By the deadline the engine has worked nearly all the time, but the step after it never comes."""
    engine = SteppedEngine()
    handle = Handle(engine)
    playing = asyncio.create_task(play(RoutedGenerate([handle], request_timeout_s=60.0), episode_timeout_s=0.3))
    await engine.begun.wait()
    engine.step(0.29)
    engine.gauges.longest_step_s = 0.05
    await until(lambda: handle.model_s.answered >= 2)
    engine.error = PolicyError("its engine core died")
    engine.finish.set()
    with pytest.raises(PolicyError, match="its engine core died"):
        await playing


async def test_an_engine_that_decodes_ends_the_episode_after_its_next_step() -> None:
    engine = SteppedEngine()
    engine.gauges.longest_step_s = 60.0
    handle = Handle(engine)
    playing = asyncio.create_task(play(RoutedGenerate([handle], request_timeout_s=60.0), episode_timeout_s=0.1))
    await until(lambda: handle.model_s.asked)
    assert not playing.done()
    engine.step(0.2)
    trajectory = await playing
    assert (trajectory.stop_reason, trajectory.turns, handle.model_s.asked) == (StopReason.DEADLINE, (), 1)
    await until(lambda: handle.abort.answered)
    assert engine.stats_of_gate() == (0, 0)


async def test_time_in_the_admission_queue_is_not_the_episodes() -> None:
    engine = SteppedEngine()  # its gate lets one in
    handle = Handle(engine)
    policy = RoutedGenerate([handle], request_timeout_s=60.0)
    first = asyncio.create_task(policy(REQUEST))
    await engine.begun.wait()
    playing = asyncio.create_task(play(policy, episode_timeout_s=0.1))
    await until(lambda: handle.model_s.answered >= 2)
    assert engine.stats_of_gate() == (1, 1)
    engine.finish.set()
    assert (await first).finish_reason == "stop"
    assert (await playing).stop_reason is StopReason.SUBMITTED


async def test_a_completion_tells_what_the_engine_worked_on_it() -> None:
    engine = SteppedEngine()
    policy = RoutedGenerate([Handle(engine)], request_timeout_s=60.0)
    sampling = asyncio.create_task(sample_within(policy, REQUEST, 60.0))
    await engine.begun.wait()
    for seconds in (1.0, 5.0, 2.0):  # the second is as long as a hang
        engine.step(seconds)
    engine.finish.set()
    completion, model_s = await sampling
    assert completion is not None
    assert completion.model_s == model_s == 3.0


async def test_an_engine_that_does_not_say_has_not_worked() -> None:
    class Dead(Handle):
        def __init__(self, engine: SteppedEngine) -> None:
            super().__init__(engine)
            self.model_s = Remote(self.gone)

        async def gone(self, request_id: str) -> float:
            raise RayActorError

    engine = SteppedEngine()
    policy = RoutedGenerate([Dead(engine)], request_timeout_s=60.0)
    assert await policy.model_s(REQUEST) == 0.0  # nobody asked for it
    sampling = asyncio.create_task(policy(REQUEST))
    await engine.begun.wait()
    engine.step(1.0)
    assert await policy.model_s(REQUEST) == 0.0
    assert await policy.model_s(replace(REQUEST)) == 0.0  # another request, equal to that one
    engine.finish.set()
    await sampling


def test_hangs_idleness_and_pauses_are_no_work() -> None:
    now = [100.0]
    gauges = EngineGauges(clock=lambda: now[0], longest_step_s=5.0)

    def step(seconds: float) -> float:
        now[0] += seconds
        gauges.step(0.1, 1, 0, 0, 0, 0)
        return gauges.worked_s

    gauges.begin()
    assert [step(1.0), step(4.5), step(60.0), step(0.5)] == [1.0, 5.5, 5.5, 6.0]
    now[0] += 3.0  # nothing to do, or new weights
    gauges.begin()
    assert (step(1.0), gauges.steps, gauges.last_step) == (7.0, 5, now[0])
