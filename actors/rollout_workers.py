"""The rollout workers of a run as its driver sees them: groups go to where their images are, and survive a worker's death.

workers = await RolloutWorkers.start(config, model_dir, images_root, journal_dir)
await workers.connect(pool.handles)                            # needed for the policy named `engine` only
group = await workers.play_group(GroupRequest(task, "engine", group_size=8, temperature=1.0, seed=0))
await workers.close()
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from actors.group_request import GroupRequest
from actors.ray_calls import arrives, cause_of, make_actor
from actors.rollout_worker import RolloutWorker, WorkerNotStartedError
from configs.run_config import RunConfig
from envpool.policy import PolicyError
from envpool.pool.image_affinity import choose_node
from envpool.preparation import Preparation
from envpool.problem import Problem
from envpool.sandbox_errors import SandboxError, SandboxUnavailableError, retry_rule
from verifier.patch_signals import PatchSignals
from verifier.reward import Group

logger = logging.getLogger(__name__)

START_S = 120.0
CLOSE_S = 60.0
PING_S = 15.0
REVIVE_PAUSE_S = 2.0
GROUP_TRIES = 5
"""A group whose worker died is played again this often in all; patches are tried again as often."""


class RolloutWorkers:
    """The rollout workers of a run, owned by the driver."""

    def __init__(self, handles: list[Any], arguments: list[tuple[Any, ...]]) -> None:
        self.handles = handles
        self._arguments = arguments
        self._engines: list[Any] | None = None
        self._world_model: tuple[list[Any], dict[str, Any]] | None = None
        self._load = [0] * len(handles)
        self._reviving: dict[int, asyncio.Task[None]] = {}

    @classmethod
    async def start(
        cls,
        config: RunConfig,
        model_dir: str,
        images_root: str,
        journal_dir: str = "",
        *,
        num_cpus: float = 0.0,
        placement_group: Any = None,
    ) -> "RolloutWorkers":
        """Start `cluster.num_rollout_workers` workers. Raises SandboxError, ValueError or OSError when one cannot start."""
        count = config.cluster.num_rollout_workers
        options = {"num_cpus": num_cpus, "max_concurrency": 1000, "max_restarts": -1}
        handles = [make_actor(RolloutWorker, placement_group, bundle, **options) for bundle in range(count)]
        journals = [f"{journal_dir}/worker_{index}.jsonl" if journal_dir else "" for index in range(count)]
        arguments = [(config, model_dir, images_root, journals[i], f"{config.name}-worker-{i}") for i in range(count)]
        workers = cls(handles, arguments)
        try:
            await asyncio.gather(*(workers._start_one(index) for index in range(count)))
        except BaseException:
            await workers.close()
            raise
        return workers

    async def connect(self, engine_handles: list[Any]) -> None:
        """Give all workers the engines behind the policy named `engine`. Raises SandboxUnavailableError."""
        self._engines = engine_handles
        await asyncio.gather(*(self._tell(index, "connect", engine_handles) for index in range(len(self.handles))))

    async def connect_world_model(self, handles: list[Any], calibration: dict[str, Any]) -> None:
        """Give all workers the world model that simulates commands and rewards, with its calibration. Raises as `connect`."""
        self._world_model = (handles, calibration)
        told = (self._tell(index, "connect_world_model", *self._world_model) for index in range(len(self.handles)))
        await asyncio.gather(*told)

    async def try_patches(self, problem: Problem, preparation: Preparation, diffs: tuple[str, ...]) -> list[PatchSignals]:
        """Signals of patches of one problem, on the worker that its image belongs to; on a fresh or another one when it dies or
        its sandboxes break, as groups are played. Raises SandboxUnavailableError when no worker or engine is left, SandboxError
        when sandboxes break again and again.
        """

        def begin(handle: Any, again: bool) -> Any:
            return handle.try_patches.remote(problem, preparation, diffs)

        try:
            signals: list[PatchSignals] = await self._outlived(problem, 1, begin)
        except RayError as error:
            if not isinstance(error, SandboxError):
                raise
            raise SandboxError(f"{problem.instance_id}: its patches could not be tried: {cause_of(error)}") from error
        return signals

    async def play_group(self, request: GroupRequest) -> Group:
        """One group, on the worker that its image belongs to as long as the loads are fair. Await many of these at once;
        workers bound what really runs.

        A group whose worker died, alone or with its node, goes on from the journalled turns on a worker that is up; one whose
        node lost its sandbox engine is played on another. Cancelling this ends its episodes and sandboxes. Raises
        SandboxUnavailableError when workers keep dying, Ray loses the answer or no node has an engine, PolicyError for an unknown
        policy; a bug comes as itself, with the worker's traceback.
        """

        def begin(handle: Any, again: bool) -> Any:
            return handle.play_group.remote(replace(request, resume=request.resume or again))

        try:
            group: Group = await self._outlived(request.task.problem, request.group_size, begin)
        except RayError as error:
            if isinstance(error, PolicyError):
                raise PolicyError(cause_of(error)) from error
            if isinstance(error, RayTaskError):
                raise
            raise SandboxUnavailableError(f"{request.task.instance_id}: {cause_of(error)}") from error
        return group

    async def cut_group(self, instance_id: str, seed: int) -> None:
        """Let a running group end with the members it has: its `play_group` returns soon after."""
        cuts = asyncio.gather(*(arrives(handle.cut_group.remote(instance_id, seed)) for handle in self.handles))
        with contextlib.suppress(RayError, TimeoutError):  # a dead worker's group is cut by nobody and ends with its worker
            await asyncio.wait_for(cuts, PING_S)

    async def stats(self) -> list[dict[str, float]]:
        """Each worker's `stats`."""
        answers = asyncio.gather(*(arrives(handle.stats.remote()) for handle in self.handles))
        return list(await asyncio.wait_for(answers, PING_S))

    async def seconds(self) -> list[dict[str, list[int]]]:
        """Each worker's `seconds`."""
        answers = asyncio.gather(*(arrives(handle.seconds.remote()) for handle in self.handles))
        return list(await asyncio.wait_for(answers, PING_S))

    async def close(self) -> None:
        """Remove all sandboxes and end the workers. Idempotent."""
        for reviving in self._reviving.values():
            reviving.cancel()
        self._reviving = {}
        handles, self.handles = self.handles, []
        closing = [asyncio.wait_for(arrives(handle.close.remote()), CLOSE_S) for handle in handles]
        await asyncio.gather(*closing, return_exceptions=True)
        for handle in handles:
            ray.kill(handle)

    async def _outlived(self, problem: Problem, load: int, begin: Callable[[Any, bool], Any]) -> Any:
        """What a worker answers to `begin(its handle, whether a worker died over it before)`, asked up to GROUP_TRIES times:
        of the revived worker when one died, of another when a node's sandboxes are away, of the same when a sandbox broke."""
        avoid: set[int] = set()
        why, again = "died", False
        for failures in range(1, GROUP_TRIES + 1):
            index = await self._worker_for(problem, load, avoid)
            self._load[index] += load
            try:
                return await self._answer(begin(self.handles[index], again))
            except RayActorError:
                again = True
                self._begin_reviving(index)
            except WorkerNotStartedError:  # it died before this came; nothing of it was done here
                self._begin_reviving(index)
            except RayError as error:
                if isinstance(error, SandboxUnavailableError):
                    avoid.add(index)
                elif not isinstance(error, SandboxError) or not retry_rule(error).allows(failures, GROUP_TRIES - 1):
                    raise
                why = cause_of(error)
            finally:
                self._load[index] -= load
        raise SandboxUnavailableError(f"{problem.instance_id} failed on {GROUP_TRIES} rollout workers; the last one: {why}")

    async def _answer(self, ref: Any) -> Any:
        try:
            return await ref
        except asyncio.CancelledError:
            ray.cancel(ref)  # the worker cancels the episodes and gives their sandboxes back
            raise

    async def _start_one(self, index: int) -> None:
        try:
            await self._tell(index, "start", *self._arguments[index])
        except RayError as error:
            raise SandboxUnavailableError(f"rollout worker {index} cannot start: {cause_of(error)}") from error

    async def _tell(self, index: int, method: str, *arguments: Any) -> None:
        try:
            await asyncio.wait_for(arrives(getattr(self.handles[index], method).remote(*arguments)), START_S)
        except TimeoutError as error:
            raise SandboxUnavailableError(f"rollout worker {index} did not {method} within {START_S:g} s") from error
        except RayError as error:
            if isinstance(error, RayTaskError):
                raise
            raise SandboxUnavailableError(f"rollout worker {index} cannot {method}: {cause_of(error)}") from error

    async def _worker_for(self, problem: Problem, load: int, avoid: set[int]) -> int:
        """A worker that is up; while all are down, the first that comes back. Raises SandboxUnavailableError."""
        if self._reviving and len(self._reviving) == len(self.handles):
            await asyncio.wait(self._reviving.values(), timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
        if not self.handles:
            raise SandboxUnavailableError(f"{problem.instance_id}: the rollout workers are closed")
        for reviving in self._reviving.values():
            if reviving.done():  # one that came to its end is not among them any more: this one ended with a bug
                reviving.result()
        up = set(range(len(self.handles))) - self._reviving.keys()
        if not up:
            raise SandboxUnavailableError(f"{problem.instance_id}: no rollout worker came back within {START_S:g} s")
        return choose_node(problem.image, self._load, load, self._reviving.keys() | (avoid if up - avoid else set()))

    def _begin_reviving(self, index: int) -> None:
        if self.handles and index not in self._reviving:
            self._reviving[index] = asyncio.create_task(self._revive(index), name=f"revive rollout worker {index}")

    async def _revive(self, index: int) -> None:
        """Until Ray has started a fresh process behind the handle, here or on another node, and it is set up and connected."""
        handle = self.handles[index]
        fresh = False
        while True:
            try:
                if not await asyncio.wait_for(arrives(handle.is_started.remote()), START_S):
                    fresh = True
                    await self._start_one(index)
                if fresh and self._engines is not None:
                    await self._tell(index, "connect", self._engines)
                if fresh and self._world_model is not None:
                    await self._tell(index, "connect_world_model", *self._world_model)
                del self._reviving[index]
                return
            except (RayError, SandboxUnavailableError, TimeoutError) as error:
                logger.warning("rollout worker %d is not back yet: %s", index, cause_of(error))
                await asyncio.sleep(REVIVE_PAUSE_S)
