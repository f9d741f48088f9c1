"""One rollout worker: it plays many episodes at once beside its own sandboxes, so that a tool call never crosses Ray."""

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from actors.episode_slots import EpisodeSlots
from actors.group_request import GroupRequest
from actors.routed_generate import RoutedGenerate
from actors.simulation import Simulation
from actors.worker_policies import endpoint_policy, scripted_policies
from configs.rollout_config import RolloutConfig
from configs.run_config import RunConfig
from configs.simulation_check import uses_world_model
from envpool.agent.episode_replay import journalled_group
from envpool.agent.journal_index import JournalIndex
from envpool.agent.turn_journal import TurnJournal
from envpool.chat.chat_format import load_chat_format
from envpool.endpoints.endpoint_policy import EndpointPolicy
from envpool.policy import Generate, PolicyError
from envpool.pool.sandbox_pool import SandboxPool
from envpool.pool.sandbox_preparation import prepare_for_agent
from envpool.preparation import Preparation
from envpool.problem import Problem
from envpool.sandbox_errors import SandboxUnavailableError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes import SANDBOXES
from envpool.trajectory import Turn
from verifier.grade_cache import GradeCache
from verifier.group_rollout import play_group
from verifier.patch_signals import PatchSignals, patch_signals
from verifier.reward import Group

REWARD_RECORDS = "simulated_rewards"
"""Folder beside the journals with what each worker's simulated rewards have cost and how their audits went."""


class WorkerNotStartedError(SandboxUnavailableError):
    """The process is a fresh one behind the handle of a dead one and was not set up yet."""


class RolloutWorker:
    """The sandboxes and episodes of one node. An asyncio class; RolloutWorkers makes Ray actors of it."""

    def __init__(self) -> None:
        self._config = RunConfig()
        self._starting = asyncio.Lock()
        self._pool: SandboxPool | None = None
        """Set by the end of `start`: a worker without one is not started."""
        self._journal: TurnJournal | None = None
        self._journal_path: Path | None = None
        self._index: JournalIndex | None = None
        self._reader = ThreadPoolExecutor(1, "journals")
        self._policies: dict[str, Generate] = {}
        self._cuts: dict[tuple[str, int], asyncio.Event] = {}
        self._simulation: Simulation | None = None

    async def start(self, config: RunConfig, model_dir: str, images_root: str, journal_path: str, owner: str) -> None:
        """Make the sandbox pool and the policies. `model_dir` holds tokenizer.json; an empty `journal_path` writes none.

        `owner` names this worker among all of this machine: what an earlier process of that name left behind is removed.
        A start that failed half-way may be tried again; one of a started worker does nothing.
        """
        async with self._starting:  # the driver asks again when its time for the first answer is over
            if self._pool is None:
                await self._start(config, model_dir, images_root, journal_path, owner)

    async def _start(self, config: RunConfig, model_dir: str, images_root: str, journal_path: str, owner: str) -> None:
        rollout = config.rollout
        self._config = config
        self._chat = load_chat_format(Path(model_dir))
        self._journal_path = Path(journal_path) if journal_path else None
        self._index = JournalIndex(self._journal_path.parent) if self._journal_path is not None else None
        paid_for = self._index if rollout.endpoint.base_url else None
        self._played_before = asyncio.get_running_loop().run_in_executor(self._reader, paid_for.seeds if paid_for else set)
        self._journal = TurnJournal(self._journal_path) if self._journal_path else None
        self._cache = GradeCache()
        self._slots = EpisodeSlots(rollout.concurrency)
        self._policies = scripted_policies(self._chat, rollout.episode.action_format)
        if rollout.endpoint.base_url:
            self._policies["endpoint"] = endpoint_policy(config, self._chat, self._journal_path)
        backend = SANDBOXES[config.sandbox.real_backend](config.sandbox, FolderImages(Path(images_root)), owner)
        sandbox = config.sandbox
        pool = SandboxPool(backend, sandbox.num_sandboxes, rollout.lease_s, num_warm=sandbox.num_warm)
        try:
            await pool.sweep()
        except BaseException:
            await pool.close()
            raise
        self._pool = pool

    async def connect(self, handles: list[Any]) -> None:
        """Engines for the policy named `engine`."""
        self._policies["engine"] = RoutedGenerate(handles, self._config.engine.request_timeout_s)

    async def connect_world_model(self, handles: list[Any], calibration: dict[str, Any]) -> None:
        """Engines (or none: world_model.endpoint) for simulated commands and rewards; the record of the rewards lies beside the
        journal."""
        assert self._pool is not None
        journal = self._journal_path
        record = None if journal is None else journal.parent / REWARD_RECORDS / f"{journal.stem}.json"
        generate = RoutedGenerate(handles, self._config.engine.request_timeout_s) if handles else None
        self._simulation = Simulation(self._config, self._chat, generate, calibration, self._pool, self._cache, record)

    async def try_patches(self, problem: Problem, preparation: Preparation, diffs: tuple[str, ...]) -> list[PatchSignals]:
        """What each patch does to the repository's own tests and to the tests that the patches bring; see
        verifier.patch_signals. Raises SandboxError."""
        if self._pool is None:
            raise WorkerNotStartedError("the rollout worker is not started")
        prepare = partial(prepare_for_agent, image=problem.image, preparation=preparation, instance_id=problem.instance_id)
        async with self._slots.take(1):
            return await patch_signals(problem, diffs, self._pool, self._config.verifier.grading_timeout_s, prepare)

    async def play_group(self, request: GroupRequest) -> Group:
        """The group, graded and rewarded; see verifier.group_rollout.play_group. While it waits for its turn, its sandboxes are
        started ahead. Raises PolicyError for a policy that is not there, and SandboxUnavailableError when the world model is not
        there, or when this node's engine is away and took the whole group with it.
        """
        if self._pool is None:
            raise WorkerNotStartedError("the rollout worker is not started")
        task, policy, seed, resume, real = request.task, request.policy, request.seed, request.resume, request.real
        if policy not in self._policies:
            raise PolicyError(f"no policy {policy!r} here; there are {', '.join(sorted(self._policies))}")

        def on_turn(sample_index: int, turn_index: int, turn: Turn) -> None:
            if self._journal is not None:
                self._journal.append(task.instance_id, sample_index, turn_index, turn, seed)

        if policy == "endpoint" and not resume:  # what was paid for in an earlier try of this run is not asked again
            resume = seed in await asyncio.shield(self._played_before)  # one reading for all groups
        wanted = (task.instance_id, request.group_size, seed) if resume else None
        pool = self._pool
        if (simulation := None if real else self._simulation) is None and not real and uses_world_model(self._config):
            raise SandboxUnavailableError("the rollout worker has no world model: train one, or set world_model.endpoint")
        pool.prefetch(task.problem.image, task.problem.workdir, request.group_size)
        asked = time.monotonic()
        async with (
            self._cut_of(task.instance_id, seed) as cut,
            self._recorded(wanted, cut) as recorded,
            self._slots.take(request.group_size, request.beside_training),
        ):
            waited = time.monotonic() - asked
            group = await play_group(
                task,
                group_size=request.group_size,
                generate=self._policies[policy],
                policy_name=policy,
                pool=pool,
                chat=self._chat,
                rollout=_limited(self._config.rollout, request.max_turns),
                verifier=self._config.verifier,
                temperature=request.temperature,
                seed=seed,
                cache=self._cache,
                on_turn=on_turn,
                recorded=recorded,
                cut=cut,
                grader=None if simulation is None else simulation.grader,
                simulate=None if simulation is None else simulation.simulate,
            )
        if pool.engine_is_down and not group.members:
            raise SandboxUnavailableError(f"the sandbox engine of this node is away; {task.instance_id} was not played")
        members = (replace(member, seconds=member.seconds.after_waiting(waited)) for member in group.members)
        return replace(group, members=tuple(members))

    async def cut_group(self, instance_id: str, seed: int) -> None:
        """Let a group that is played here end with the members it has."""
        if (instance_id, seed) in self._cuts:
            self._cuts[instance_id, seed].set()

    @asynccontextmanager
    async def _cut_of(self, instance_id: str, seed: int) -> AsyncIterator[asyncio.Event]:
        cut = self._cuts[instance_id, seed] = asyncio.Event()
        try:
            yield cut
        finally:
            if self._cuts.get((instance_id, seed)) is cut:  # a resumed group may have begun before this one had ended
                del self._cuts[instance_id, seed]

    @asynccontextmanager
    async def _recorded(
        self, wanted: tuple[str, int, int] | None, cut: asyncio.Event
    ) -> AsyncIterator[dict[int, tuple[Turn, ...]]]:
        """What the journals have of a group (instance_id, group_size, seed); nothing when it is cut before that is read."""
        if wanted is None or self._index is None:
            yield {}
            return
        reading = asyncio.get_running_loop().run_in_executor(self._reader, journalled_group, self._index, *wanted)
        cutting = asyncio.create_task(cut.wait())
        either: set[asyncio.Future[Any]] = {reading, cutting}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            found = reading.result() if reading.done() else {}
        finally:
            cutting.cancel()
            reading.cancel()
        yield found

    async def stats(self) -> dict[str, float]:
        """Sandboxes `started`, `lost`, `active`, leases that found a warm one (`warm_hits`), leftovers `swept` up; patches
        `graded` and answered from the cache (`shared`)."""
        if self._pool is None:
            return {}
        cache = self._cache
        counts = {name: getattr(self._pool, name) for name in ("started", "lost", "active", "warm_hits", "swept")}
        simulated = {} if self._simulation is None else self._simulation.figures()
        return {**counts, "graded": cache.num_graded, "shared": cache.num_shared, **simulated}

    async def seconds(self) -> dict[str, list[int]]:
        """Bins of envpool.pool.seconds_histogram: `start` of sandboxes, `exec` of commands, `eval` of gradings."""
        if self._pool is None:
            return {}
        return {"start": self._pool.start_s.counts, "exec": self._pool.exec_s.counts, "eval": self._cache.seconds.counts}

    async def is_started(self) -> bool:
        """False in the fresh process that follows a dead one."""
        return self._pool is not None

    async def close(self) -> None:
        """Remove every sandbox. Idempotent."""
        pool, self._pool = self._pool, None
        if self._simulation is not None:
            await self._simulation.close()
        if pool is not None:
            await pool.close()
        self._reader.shutdown(wait=False, cancel_futures=True)
        if self._journal is not None:
            self._journal.close()
        if isinstance(endpoint := self._policies.get("endpoint"), EndpointPolicy):
            await endpoint.close()


def _limited(rollout: RolloutConfig, max_turns: int) -> RolloutConfig:
    return replace(rollout, episode=replace(rollout.episode, max_turns=max_turns)) if max_turns else rollout
