"""Engines as Ray actors, and the policy that samples from them.

pool = await EnginePool.start(model_dir, config.engine, dtype="float32")
completion = await pool.policy()(request)          # anywhere the pool's `handles` were sent: RoutedGenerate(handles, ...)
await pool.update_weights(ref_of_a_weight_buffer, version=3)
await pool.close()
"""

import asyncio
import itertools
import os
import time
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from actors.engine_mailbox import Answer, EngineLink, EngineRequest, Exchange, Mailbox
from actors.engine_router import EngineRouter
from actors.engines.vllm_engine import VLLMEngine
from actors.ray_calls import arrives, cause_of, make_actor
from actors.weight_sync import WeightSyncError
from configs.model_config import EngineConfig
from envpool.policy import Completion, GenerateRequest, PolicyError

PING_S = 15.0
UPDATE_S = 300.0
CLOSE_S = 20.0


class EngineActor(VLLMEngine):
    """The engine and its mailbox in one Ray actor."""

    def __init__(self) -> None:
        super().__init__()
        self._mailbox = Mailbox(self._serve)

    async def exchange(self, caller: str, requests: list[EngineRequest]) -> list[Answer]:
        """See `Mailbox.exchange`."""
        return await self._mailbox.exchange(caller, requests)

    async def _serve(self, request: EngineRequest) -> Completion:
        return await self.generate(request.request_id, request.prompt_ids, request.max_tokens, request.temperature, request.seed)


class RoutedGenerate:
    """envpool.policy.Generate over engine actors. Sessions stay on their engine; every request has a deadline.

    Raises PolicyError when an engine died, refused or was too slow; the other engines take the session's next request.
    Use it in the event loop that made it.
    """

    def __init__(self, handles: list[Any], request_timeout_s: float) -> None:
        self._caller = f"{os.getpid()}-{time.time_ns()}"
        self._handles = handles
        self._links = [EngineLink(self._caller, _exchange_with(index, handle)) for index, handle in enumerate(handles)]
        self._timeout_s = request_timeout_s
        self._router = EngineRouter(len(handles))
        self._numbers = itertools.count()

    async def __call__(self, request: GenerateRequest) -> Completion:
        index = self._router.begin(request.session_id, time.monotonic())
        request_id = f"{self._caller}-{next(self._numbers)}"
        posted = EngineRequest(request_id, request.prompt_ids, request.max_tokens, request.temperature, request.seed)
        engine_to_blame = False
        answered = False
        try:
            completion = await asyncio.wait_for(self._links[index].generate(posted), self._timeout_s)
            answered = True
            return completion
        except TimeoutError as error:
            engine_to_blame = True
            raise PolicyError(
                f"engine {index} gave no completion within {self._timeout_s:g} s (engine.request_timeout_s)"
            ) from error
        except PolicyError:
            engine_to_blame = answered = True
            raise
        finally:
            self._router.end(index, not engine_to_blame, time.monotonic())
            if not answered:
                self._handles[index].abort.remote(request_id)


class EnginePool:
    """The engines of a run, owned by the driver. Engines that died come back with `revive`, holding the newest weights."""

    def __init__(self, handles: list[Any], model_dir: str, engine: EngineConfig, dtype: str) -> None:
        self.handles = handles
        """One actor per engine; send these to rollout workers."""
        self._model_dir = model_dir
        self._engine = engine
        self._dtype = dtype
        self._newest: tuple[str, Any, int] | None = None

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
    ) -> "EnginePool":
        """Start `engine.num_engines` engines at once, one in each bundle of `placement_group`.

        Raises PolicyError when one is not up within `engine.start_timeout_s`; none is left behind then.
        """
        options = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_concurrency": 1000, "max_restarts": -1}
        handles = [make_actor(EngineActor, placement_group, bundle, **options) for bundle in range(engine.num_engines)]
        pool = cls(handles, model_dir, engine, dtype)
        try:
            await asyncio.gather(*(pool._start_one(index) for index in range(len(handles))))
        except BaseException:
            for handle in handles:  # an engine that is still starting would hear `close` only afterwards
                ray.kill(handle)
            raise
        return pool

    def policy(self) -> RoutedGenerate:
        """A policy over all engines."""
        return RoutedGenerate(self.handles, self._engine.request_timeout_s)

    async def update_weights(self, buffer: Any, version: int) -> float:
        """Give every engine the weights in `buffer` (a WeightBuffer or a ref of one). Returns the slowest engine's seconds.

        A dead engine is revived with these weights. Raises WeightSyncError when an engine refused them.
        """
        ref = buffer if isinstance(buffer, ray.ObjectRef) else ray.put(buffer)
        return await self._send("update_weights", ref, version)

    async def load_model(self, model_dir: str, version: int) -> float:
        """Give every engine the weights of another folder of the same architecture (policy to reward model and back)."""
        return await self._send("load_model", model_dir, version)

    async def revive(self) -> int:
        """Restart the engines that do not answer, with the newest weights. Returns how many there were."""
        dead = []
        for index, handle in enumerate(self.handles):
            try:
                await asyncio.wait_for(arrives(handle.stats.remote()), PING_S)
            except (RayError, PolicyError, TimeoutError):
                dead.append(index)
        await asyncio.gather(*(self._restart(index) for index in dead))
        return len(dead)

    async def stats(self) -> list[dict[str, float]]:
        """Each engine's `stats`. Raises PolicyError when one is dead."""
        try:
            refs = [handle.stats.remote() for handle in self.handles]
            return list(await asyncio.wait_for(asyncio.gather(*(arrives(ref) for ref in refs)), PING_S))
        except RayError as error:
            raise as_policy_error(error, "an engine") from error

    async def close(self) -> None:
        """End all engines and their processes. Idempotent."""
        handles, self.handles = self.handles, []
        closing = [asyncio.wait_for(arrives(handle.close.remote()), CLOSE_S) for handle in handles]
        await asyncio.gather(*closing, return_exceptions=True)
        for handle in handles:
            ray.kill(handle)

    async def _send(self, method: str, source: Any, version: int) -> float:
        async def one(index: int) -> float:
            try:
                return float(
                    await asyncio.wait_for(arrives(getattr(self.handles[index], method).remote(source, version)), UPDATE_S)
                )
            except RayError as error:
                if isinstance(error, WeightSyncError):
                    raise WeightSyncError(f"engine {index}: {cause_of(error)}") from error
                began = time.monotonic()
                await self._restart(index, (method, source, version))
                return time.monotonic() - began
            except TimeoutError as error:
                raise WeightSyncError(f"engine {index} did not take version {version} within {UPDATE_S:g} s") from error

        seconds = await asyncio.gather(*(one(index) for index in range(len(self.handles))))
        self._newest = (method, source, version)
        return max(seconds)

    async def _start_one(self, index: int) -> None:
        timeout_s = self._engine.start_timeout_s
        try:
            ref = self.handles[index].start.remote(self._model_dir, self._engine, self._dtype)
            await asyncio.wait_for(arrives(ref), timeout_s)
        except TimeoutError as error:
            raise PolicyError(f"engine {index} was not up within {timeout_s:g} s (engine.start_timeout_s)") from error
        except RayError as error:
            raise as_policy_error(error, f"engine {index}") from error

    async def _restart(self, index: int, newest: tuple[str, Any, int] | None = None) -> None:
        handle = self.handles[index]
        await self._fresh_process(index)
        await self._start_one(index)
        newest = newest or self._newest
        if newest is not None:
            method, source, version = newest
            try:
                await asyncio.wait_for(arrives(getattr(handle, method).remote(source, version)), UPDATE_S)
            except (RayError, TimeoutError) as error:
                raise PolicyError(f"engine {index} came back but did not take version {version}: {cause_of(error)}") from error

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


def as_policy_error(error: RayError, who: str) -> PolicyError:
    """What Ray raised for a call of an engine, as one line."""
    if isinstance(error, RayActorError):
        return PolicyError(f"{who} died; its requests are lost")
    return PolicyError(f"{who}: {cause_of(error)}")


def _exchange_with(index: int, handle: Any) -> Exchange:
    async def exchange(caller: str, requests: list[EngineRequest]) -> list[Answer]:
        try:
            answers: list[Answer] = await handle.exchange.remote(caller, requests)
        except RayError as error:
            raise as_policy_error(error, f"engine {index}") from error
        return answers

    return exchange
