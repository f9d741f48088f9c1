"""The engines of a run: started together, watched, restarted with the newest weights.

pool = await EnginePool.start(model_dir, config.engine, dtype="float32")
completion = await pool.policy()(request)          # anywhere the pool's `handles` were sent: RoutedGenerate(handles, ...)
await pool.update_weights(buckets, version=3)
await pool.close()
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from actors.engine_actor import EngineActor
from actors.engine_health import EngineHealth, Event, Health
from actors.ray_calls import arrives, cause_of, make_actor
from actors.routed_generate import RoutedGenerate, as_unavailable
from actors.weight_packing import WeightsGoneError, WeightSyncError
from configs.model_config import EngineConfig
from envpool.policy import Completion, GenerateRequest, PolicyError

logger = logging.getLogger(__name__)

PING_S = 15.0
UPDATE_S = 300.0
NATIVE_UPDATE_S = 600.0
"""Joining a transfer group and the transfer itself."""
CLOSE_S = 20.0
RESTART_PAUSE_S = 5.0
"""After a restart that failed, before the next."""
RESTARTS_WAITED_FOR = 3
"""Where no engine serves, so many start timeouts are waited for one."""


class EnginePool:
    """Owned by the driver. A background task pings every engine; one that died or hangs is restarted, given the newest weights
    and only then serves again (see actors.engine_health)."""

    def __init__(self, handles: list[Any], model_dir: str, engine: EngineConfig, dtype: str) -> None:
        self.handles = handles
        """One actor per engine; send these to rollout workers."""
        self.health = [EngineHealth(engine.missed_pings) for _ in handles]
        self._model_dir = model_dir
        self._engine = engine
        self._dtype = dtype
        self._sleeps = False
        self._asleep = False
        self._newest: tuple[str, Any, int] | None = None
        self._weights_lock = asyncio.Lock()
        self._restarts: dict[int, asyncio.Task[None]] = {}
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        model_dir: str,
        engine: EngineConfig,
        dtype: str,
        *,
        num_cpus: float = 0.0,
        num_gpus: float = 0.0,
        placement_group: Any = None,
        sleeps: bool = False,
    ) -> "EnginePool":
        """Start `engine.num_engines` engines at once, one in each bundle of `placement_group`. `sleeps`: see `sleep`.

        Raises PolicyError when one is not up within `engine.start_timeout_s`; none is left behind then.
        """
        options = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_concurrency": 1000, "max_restarts": -1}
        handles = [make_actor(EngineActor, placement_group, bundle, **options) for bundle in range(engine.num_engines)]
        pool = cls(handles, model_dir, engine, dtype)
        pool._sleeps = sleeps
        try:
            await asyncio.gather(*(pool._start_one(index, stale=False) for index in range(len(handles))))
        except BaseException:
            for handle in handles:  # an engine that is still starting would hear `close` only afterwards
                ray.kill(handle)
            raise
        pool._watching = asyncio.create_task(pool._watch(), name="watch engines")
        return pool

    @property
    def max_model_len(self) -> int:
        """Tokens of prompt and completion together."""
        return self._engine.max_model_len

    @property
    def native_backend(self) -> str:
        """nccl or ipc; empty when weights come as buckets."""
        return self._engine.weight_transfer if self._engine.weight_transfer in ("nccl", "ipc") else ""

    @property
    def workers_per_engine(self) -> int:
        """GPUs of one engine."""
        return self._engine.tensor_parallel

    def policy(self) -> RoutedGenerate:
        """A policy over all engines."""
        return RoutedGenerate(self.handles, self._engine.request_timeout_s)

    async def update_weights(self, buckets: Iterable[Any] | AsyncIterable[Any], version: int) -> float:
        """Give every engine the weights in `buckets` (WeightBuckets or refs of them). Returns seconds.

        Each bucket is sent on as it comes, and loaded when all of them are everywhere. Engines that are down load them when they
        are back. Raises WeightSyncError, with the old weights still served, when an engine refused them.
        """
        began = time.monotonic()
        async with self._weights_lock:
            taking = self._taking()
            refs: list[Any] = []
            sending: list[asyncio.Task[None]] = []
            try:
                async for bucket in _each(buckets):
                    refs.append(bucket if isinstance(bucket, ray.ObjectRef) else ray.put(bucket))
                    sending += [asyncio.create_task(self._give(i, "receive_bucket", refs[-1])) for i in self._still(taking)]
                await _all(sending)
                await _all([self._give(index, "load_received", version) for index in self._still(taking)])
            except BaseException:
                await asyncio.gather(*sending, return_exceptions=True)  # what still arrives would not be dropped
                await asyncio.gather(*(self._give(index, "drop_received") for index in self._still(taking)))
                raise
            self._now_newest("buckets", refs, version, taking)
        await self._until_one_serves()
        return time.monotonic() - began

    async def update_natively(
        self, send: Callable[[list[int]], Awaitable[None]], later: Callable[[], AsyncIterable[Any]], version: int
    ) -> float:
        """As `update_weights`, by a transfer that `send` drives from the learner's side (actors.native_transfer) to the engines
        that it is given: those that are up. One that restarts meanwhile is left out.

        `later` gives the same weights as buckets, for an engine that comes back after a crash; where it raises WeightsGoneError
        the engine waits for the next update. When the transfer fails, its engines are restarted, since each may hold half of
        it; raises what `send` raised.
        """
        began = time.monotonic()
        async with self._weights_lock:
            taking = self._taking()
            try:
                if taking:
                    await asyncio.wait_for(send(taking), NATIVE_UPDATE_S)
            except BaseException:
                for index in self._still(taking):
                    self._note(index, Event.DIED, f"the transfer of version {version} failed")
                raise
            self._now_newest("later", later, version, taking)
        await self._until_one_serves()
        return time.monotonic() - began

    async def sleep(self) -> None:
        """Give the GPU's memory to a learner on the same one (see VLLMEngine.sleep). Idempotent."""
        if not self._asleep:
            self._asleep = True
            await _all([self._give(index, "sleep") for index in self._taking()])

    async def wake(self) -> None:
        """Sample again. Idempotent."""
        if self._asleep:
            self._asleep = False
            await _all([self._give(index, "wake") for index in self._taking()])

    @property
    def generation(self) -> int:
        """Changes whenever an engine was restarted: connections to the old processes are of no use any more."""
        return sum(health.restarts for health in self.health)

    async def load_model(self, model_dir: str, version: int) -> float:
        """Give every engine the weights of another folder of the same architecture (policy to reward model and back)."""
        began = time.monotonic()
        async with self._weights_lock:
            taking = self._taking()
            await _all([self._give(index, "load_model", model_dir, version) for index in taking])
            self._now_newest("load_model", model_dir, version, taking)
        await self._until_one_serves()
        return time.monotonic() - began

    async def ask_each(self, requests: Sequence[GenerateRequest]) -> dict[int, list[Completion]]:
        """Every serving engine's completions of all `requests`. Raises PolicyError, also when none serves."""
        if not self._serving():
            raise PolicyError(f"no engine serves: {self.health[0].state.value}")
        policies = {i: RoutedGenerate([self.handles[i]], self._engine.request_timeout_s) for i in self._serving()}
        rows = await asyncio.gather(*(asyncio.gather(*map(policy, requests)) for policy in policies.values()))
        return {index: list(row) for index, row in zip(policies, rows, strict=True)}

    async def revive(self) -> int:
        """Look at every engine now, and wait until all are up and hold the newest weights there are. Returns how many did not.

        The pool does the same by itself every `engine.health_interval_s`. Raises PolicyError.
        """
        await asyncio.gather(*(self._ping(index) for index in self._taking()))
        down = len(self.handles) - len(self._taking())
        await self._until(lambda: len(self._taking()) == len(self.handles))
        return down

    async def stats(self) -> list[dict[str, float]]:
        """Each engine's `stats`, and how often it was restarted. Raises PolicyError when one is dead."""
        self._look_after_watch()
        try:
            refs = [handle.stats.remote() for handle in self.handles]
            rows = await asyncio.wait_for(asyncio.gather(*(arrives(ref) for ref in refs)), PING_S)
        except RayError as error:
            raise as_unavailable(error, "an engine") from error
        return [{**row, "restarts": health.restarts} for row, health in zip(rows, self.health, strict=True)]

    async def close(self) -> None:
        """End all engines and their processes. Idempotent."""
        tasks = [*self._restarts.values(), *([self._watching] if self._watching else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watching = None
        handles, self.handles, self.health = self.handles, [], []
        closing = [asyncio.wait_for(arrives(handle.close.remote()), CLOSE_S) for handle in handles]
        await asyncio.gather(*closing, return_exceptions=True)
        for handle in handles:
            ray.kill(handle)

    # ---- health ---------------------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._engine.health_interval_s)
            await asyncio.gather(*(self._ping(index) for index in self._taking()))
            for index, health in enumerate(self.health):
                if health.state is Health.DEAD:
                    self._begin_restart(index)

    def _look_after_watch(self) -> None:
        """Raise the bug that ended the watch: without it no engine is restarted."""
        if self._watching is not None and self._watching.done():
            self._watching.result()

    async def _ping(self, index: int) -> None:
        try:
            stats = await asyncio.wait_for(arrives(self.handles[index].stats.remote()), PING_S)
        except TimeoutError:
            self._note(index, Event.MISSED, f"no answer within {PING_S:g} s")
        except RayError as error:
            self._note(index, Event.DIED, cause_of(error))
        else:
            stalled = stats["stalled_s"] > self._engine.stall_timeout_s
            self._note(index, Event.MISSED if stalled else Event.ANSWERED, "its requests make no progress")

    def _note(self, index: int, event: Event, why: str = "") -> None:
        before = self.health[index].state
        after = self.health[index].on(event)
        if after is not before:
            level = logging.INFO if after is Health.HEALTHY else logging.WARNING
            logger.log(level, "engine %d: %s (%s)", index, after.name.lower(), why or after.value)

    def _serving(self) -> list[int]:
        return [index for index, health in enumerate(self.health) if health.serves]

    def _taking(self) -> list[int]:
        """Who takes part in a weight update; a restart that is under way looks after its own engine."""
        return [index for index, health in enumerate(self.health) if health.takes_weights]

    def _still(self, indices: list[int]) -> list[int]:
        return [index for index in indices if self.health[index].takes_weights]

    def _now_newest(self, kind: str, source: Any, version: int, taken_by: list[int]) -> None:
        self._newest = (kind, source, version)
        for index in self._still(taken_by):
            self._note(index, Event.LOADED)

    def _begin_restart(self, index: int) -> asyncio.Task[None]:
        """The restart of a dead engine, which may be under way."""
        if index not in self._restarts:
            task = asyncio.create_task(self._restart(index), name=f"restart engine {index}")
            self._restarts[index] = task
            task.add_done_callback(lambda _: self._restarts.pop(index, None))
        return self._restarts[index]

    async def _restart(self, index: int) -> None:
        self._note(index, Event.RESTART)
        try:
            await self._fresh_process(index)
            await self._start_one(index, stale=True)
            self._note(index, Event.STARTED)
            async with self._weights_lock:  # no update in between: what is loaded here is the newest
                await self._catch_up(index)
        except Exception as error:  # whatever it was: an engine that is not dead would never be tried again
            self._note(index, Event.DIED, f"the restart failed: {cause_of(error)}")
            await asyncio.sleep(RESTART_PAUSE_S)

    async def _catch_up(self, index: int) -> None:
        """A fresh engine loads the newest weights, or waits for the next; and then sleeps when the others do."""
        handle, event, why = self.handles[index], Event.LOADED, ""
        try:
            await self._load_newest(handle)
        except WeightsGoneError as gone:
            await self._in_time([arrives(handle.drop_received.remote())])
            event, why = Event.GONE, str(gone)
        sleeps = False
        while sleeps != self._asleep:  # which may change while it is told
            sleeps = self._asleep
            await self._in_time([arrives((handle.sleep if sleeps else handle.wake).remote())])
        self._note(index, event, why)

    async def _load_newest(self, handle: Any) -> None:
        if self._newest is None:
            await self._in_time([arrives(handle.accept_requests.remote())])
        elif self._newest[0] == "load_model":
            await self._in_time([arrives(handle.load_model.remote(*self._newest[1:]))])
        else:
            kind, source, version = self._newest
            refs = [ref async for ref in _each(source() if kind == "later" else source)]
            await self._in_time([arrives(handle.receive_bucket.remote(ref)) for ref in refs])
            await self._in_time([arrives(handle.load_received.remote(version))])

    async def _in_time(self, calls: list[Coroutine[Any, Any, Any]]) -> None:
        await asyncio.wait_for(asyncio.gather(*calls), UPDATE_S)

    async def _until_one_serves(self) -> None:
        await self._until(self._serving)

    async def _until(self, enough: Callable[[], object]) -> None:
        """Restart what is dead, again where that fails, until `enough`. Raises PolicyError after RESTARTS_WAITED_FOR start
        timeouts."""
        self._look_after_watch()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RESTARTS_WAITED_FOR * self._engine.start_timeout_s):
                while not enough():
                    dead = {index for index, health in enumerate(self.health) if health.state is Health.DEAD}
                    if not (waiting := [self._begin_restart(index) for index in dead | self._restarts.keys()]):
                        break
                    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if not enough():
            states = ", ".join(health.state.name.lower() for health in self.health)
            raise PolicyError(f"engines did not come back: {states}")

    # ---- one engine -----------------------------------------------------------------------------------------------------

    async def _give(self, index: int, method: str, *args: Any) -> None:
        """Part of a weight update. An engine that dies or hangs over it is left to the health task."""
        try:
            await asyncio.wait_for(arrives(getattr(self.handles[index], method).remote(*args)), UPDATE_S)
        except RayError as error:
            if isinstance(error, WeightSyncError):
                raise WeightSyncError(f"engine {index}: {cause_of(error)}") from error
            self._note(index, Event.DIED, cause_of(error))
        except TimeoutError:
            self._note(index, Event.DIED, f"{method}: no answer within {UPDATE_S:g} s")

    async def _start_one(self, index: int, stale: bool) -> None:
        timeout_s = self._engine.start_timeout_s
        try:
            ref = self.handles[index].start.remote(self._model_dir, self._engine, self._dtype, stale, self._sleeps)
            await asyncio.wait_for(arrives(ref), timeout_s)
        except TimeoutError as error:
            raise PolicyError(f"engine {index} was not up within {timeout_s:g} s (engine.start_timeout_s)") from error
        except RayError as error:
            raise as_unavailable(error, f"engine {index}") from error

    async def _fresh_process(self, index: int) -> None:
        """Wait until a process without an engine answers: Ray starts one behind the same handle when the old one is gone."""
        handle = self.handles[index]
        ended = False
        deadline = time.monotonic() + self._engine.start_timeout_s
        while time.monotonic() < deadline:
            try:
                if not await asyncio.wait_for(arrives(handle.is_started.remote()), PING_S):
                    return
                stuck = True
            except TimeoutError:
                stuck = True
            except RayError:
                stuck = False
            if stuck and not ended:
                ray.kill(handle, no_restart=False)
                ended = True
            await asyncio.sleep(0.2)
        raise PolicyError(f"engine {index} died and did not come back within {self._engine.start_timeout_s:g} s")


async def _all(calls: Sequence[Awaitable[None]]) -> None:
    """Wait for every one, then raise the first error."""
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if result is not None:
            raise result


async def _each(buckets: Iterable[Any] | AsyncIterable[Any]) -> AsyncIterator[Any]:
    if isinstance(buckets, AsyncIterable):
        async for bucket in buckets:
            yield bucket
    else:
        for bucket in buckets:
            yield bucket
