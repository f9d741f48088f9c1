"""The pool over scripted engines: restarts that fail, weights that are gone, sleeping, native transfers. No Ray is started."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from actors import engine_pool
from actors.engine_health import Event, Health
from actors.engine_pool import EnginePool
from actors.weight_packing import WeightsGoneError
from benchmarks.simulated_clock import run_simulated
from configs.model_config import EngineConfig
from envpool.policy import PolicyError


class ScriptedEngine:
    """An engine actor whose calls are noted when they end. `broken` has what the next calls of a method raise; a call of a
    method in `held` ends when that event is set, and sets the one in `asked`."""

    def __init__(self, **broken: list[Exception]) -> None:
        self.done: list[str] = []
        self.broken = broken
        self.held: dict[str, asyncio.Event] = {}
        self.asked = defaultdict[str, asyncio.Event](asyncio.Event)

    def __getattr__(self, method: str) -> Any:
        async def call(*arguments: Any) -> Any:
            self.asked[method].set()
            await asyncio.sleep(0.001)
            if method in self.held:
                await self.held[method].wait()
            if self.broken.get(method):
                raise self.broken[method].pop(0)
            self.done.append(method)
            return False if method == "is_started" else {"stalled_s": 0.0}

        class Remote:
            remote = staticmethod(call)

        return Remote


def pool_of(*engines: ScriptedEngine, start_timeout_s: float = 5.0) -> EnginePool:
    return EnginePool(list(engines), "model", EngineConfig(start_timeout_s=start_timeout_s, health_interval_s=0.01), "float32")


def source(*errors: Exception) -> Callable[[], AsyncIterator[str]]:
    """Buckets of the newest weights; the first times they are asked for, these errors instead."""
    left = list(errors)

    async def later() -> AsyncIterator[str]:
        if left:
            raise left.pop(0)
        yield "bucket"

    return later


class Sent:
    """Which engines each native transfer went to."""

    def __init__(self) -> None:
        self.to: list[list[int]] = []

    async def __call__(self, taking: list[int]) -> None:
        self.to.append(taking)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_pool, "RESTART_PAUSE_S", 0.01)


async def within_seconds(call: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(call, 10)


async def test_a_restart_that_fails_in_any_way_is_tried_again() -> None:
    engine = ScriptedEngine(start=[RuntimeError("no memory")], load_received=[KeyError("a bug")])
    pool = pool_of(engine)
    await pool.update_natively(Sent(), source(IndexError("the learner's group is closed")), 3)
    pool._note(0, Event.DIED)
    assert await within_seconds(pool.revive()) == 1
    assert (pool.health[0].state, pool.health[0].restarts) == (Health.HEALTHY, 4)


async def test_a_restarted_engine_whose_weights_are_gone_is_brought_up_to_date_by_the_next_sync() -> None:
    pool, sent = pool_of(ScriptedEngine(), lost := ScriptedEngine()), Sent()
    await pool.update_natively(sent, source(WeightsGoneError("the learner does not hold version 3 any more")), 3)
    pool._note(1, Event.DIED)
    await within_seconds(pool.revive())
    assert [health.state for health in pool.health] == [Health.HEALTHY, Health.BEHIND]
    assert lost.done == ["is_started", "start", "drop_received"]
    await pool.update_natively(sent, source(), 4)
    assert [health.state for health in pool.health] == [Health.HEALTHY, Health.HEALTHY]
    assert sent.to == [[0, 1], [0, 1]]


async def test_a_native_sync_leaves_out_an_engine_that_is_restarting() -> None:
    pool, sent = pool_of(ScriptedEngine(), slow := ScriptedEngine()), Sent()
    slow.held["start"] = asyncio.Event()
    pool._note(1, Event.DIED)
    restart = pool._begin_restart(1)
    await pool.update_natively(sent, source(), 1)
    assert (sent.to, pool.health[1].state) == ([[0]], Health.RESTARTING)
    slow.held["start"].set()
    await within_seconds(restart)
    assert slow.done[-2:] == ["receive_bucket", "load_received"]
    assert pool.health[1].state is Health.HEALTHY


async def test_a_native_sync_without_any_engine_waits_for_one_that_loads_buckets() -> None:
    pool, sent = pool_of(engine := ScriptedEngine()), Sent()
    pool._note(0, Event.DIED)
    await within_seconds(pool.update_natively(sent, source(), 1))
    assert (sent.to, engine.done[-1]) == ([], "load_received")
    assert pool.health[0].state is Health.HEALTHY


async def test_a_failed_native_transfer_restarts_the_engines_that_took_part() -> None:
    async def broken(taking: list[int]) -> None:
        raise OSError("a link is down")

    pool = pool_of(ScriptedEngine(), ScriptedEngine())
    pool.health[1].state = Health.BEHIND
    with pytest.raises(OSError, match="a link is down"):
        await pool.update_natively(broken, source(), 2)
    assert [health.state for health in pool.health] == [Health.DEAD, Health.DEAD]


async def test_a_restarted_engine_sleeps_only_when_its_weights_are_loaded() -> None:
    pool = pool_of(engine := ScriptedEngine())
    await pool.update_natively(Sent(), source(), 1)
    await pool.sleep()
    pool._note(0, Event.DIED)
    engine.done.clear()
    await within_seconds(pool.revive())
    assert engine.done == ["is_started", "start", "receive_bucket", "load_received", "sleep"]


async def test_an_engine_that_is_put_to_sleep_while_all_wake_up_wakes_up_too() -> None:
    pool = pool_of(engine := ScriptedEngine())
    await pool.update_natively(Sent(), source(), 1)
    await pool.sleep()
    pool._note(0, Event.DIED)
    engine.asked.clear()
    engine.held["sleep"] = asyncio.Event()
    restart = pool._begin_restart(0)
    await within_seconds(engine.asked["sleep"].wait())
    await pool.wake()
    engine.held["sleep"].set()
    await within_seconds(restart)
    assert engine.done[-2:] == ["sleep", "wake"]
    assert pool.health[0].state is Health.HEALTHY


async def test_one_failed_restart_does_not_end_an_update() -> None:
    pool = pool_of(engine := ScriptedEngine(start=[RuntimeError("once"), RuntimeError("twice")]))
    pool._note(0, Event.DIED)
    assert await within_seconds(pool.load_model("other", 2)) >= 0
    assert engine.done[-1] == "load_model"
    assert pool.health[0].restarts == 3


def test_an_update_waits_for_restarts_until_one_deadline() -> None:
    async def go() -> EnginePool:
        engine = ScriptedEngine()
        engine.held["start"] = asyncio.Event()
        pool = pool_of(engine, start_timeout_s=60.0)
        pool._note(0, Event.DIED)
        with pytest.raises(PolicyError, match="engines did not come back: "):
            await pool.load_model("other", 2)
        assert asyncio.get_running_loop().time() == pytest.approx(engine_pool.RESTARTS_WAITED_FOR * 60.0)
        await asyncio.gather(*pool._restarts.values())
        return pool

    assert run_simulated(go()).health[0].restarts == engine_pool.RESTARTS_WAITED_FOR


async def test_a_bug_that_ends_the_watch_is_raised_by_whatever_is_asked_next() -> None:
    pool = pool_of(engine := ScriptedEngine())
    engine.stats = SimpleNamespace(remote=lambda: answer({}))  # type: ignore[attr-defined]  # no "stalled_s"
    pool._watching = asyncio.create_task(pool._watch())
    await within_seconds(asyncio.wait([pool._watching]))
    for call in (pool.stats(), pool.load_model("other", 2)):
        with pytest.raises(KeyError, match="stalled_s"):
            await within_seconds(call)
    pool.handles = []  # nothing for Ray to end
    await pool.close()


async def answer(value: Any) -> Any:
    return value


async def test_no_engine_can_be_asked_while_none_serves() -> None:
    pool = pool_of(ScriptedEngine())
    pool._note(0, Event.DIED)
    with pytest.raises(PolicyError, match="no engine serves"):
        await pool.ask_each([])
