"""The actors of a run, started when first needed and shared by all stages: engines, rollout workers, learner."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ray.exceptions import RayError

from actors.engine_pool import EnginePool
from actors.group_request import GroupRequest
from actors.learner_group import LearnerGroup
from actors.logprob_gap import sync_metrics
from actors.rollout_workers import RolloutWorkers
from actors.routed_generate import RoutedGenerate
from cluster.calibration_file import read_calibration, scorer_name
from cluster.fleet_figures import FleetCounters
from cluster.placement import COLOCATED, plan_placement
from cluster.ray_session import placed_groups, ray_session
from cluster.run_folder import RunFolder
from configs.engine_check import weight_transfer_of
from configs.optimizer_config import LearnerConfig, OptimizerConfig
from configs.run_config import RunConfig
from configs.simulation_check import uses_world_model
from envpool.chat.chat_format import ChatFormat, load_chat_format
from envpool.policy import IntArray, Message, PolicyError
from envpool.preparation import Preparation
from envpool.problem import Problem
from envpool.task import Task
from trainers.model_paths import resolve_model_path
from trainers.rope_scaling import stretched_model
from trainers.train_sample import TrainSample
from verifier.patch_signals import PatchSignals
from verifier.reward import Group

MEANS = ("audit_share", "audit_mean_residual")
"""Figures of several workers that are averaged and not added up."""

logger = logging.getLogger(__name__)
Starting = Coroutine[Any, Any, Any]


def of_ranks(learner: LearnerConfig) -> LearnerConfig:
    """The settings without those that only `--plan` reads: ranks that were started with equal ones are the same."""
    return replace(learner, gpu_memory_gib=0.0, gpu_peak_tflops=0.0, expected_mfu=0.0)


class Fleet:
    """Owns every actor of a run; `close` ends them all. Models are served by name: base, sft, grpo, world-model.

    The engines are started once and their weights replaced: all models of a run share one architecture. So are the learner's
    ranks, as long as the stages that train ask for the same settings.
    """

    def __init__(self, config: RunConfig, folder: RunFolder) -> None:
        self._config, self._folder = config, folder
        self._resources = ExitStack()
        self._starting: dict[str, asyncio.Task[Any]] = {}
        self._ranks: LearnerConfig | None = None  # what the learner was started with
        self._served = "base"

    def turn_to(self, config: RunConfig, folder: RunFolder) -> None:
        """Serve another run folder of the same base model with the actors that are there; models are its own from now on."""
        self._config, self._folder = config, folder
        if self._served != "base":
            self._served = ""

    @cached_property
    def base_model(self) -> Path:
        """The run's model folder; with model.rope_factor, one beside the run whose config has the longer context."""
        folder, factor = resolve_model_path(self._config.model.path), self._config.model.rope_factor
        return folder if factor == 1 else stretched_model(folder, self._folder.hf("base"), factor)

    @cached_property
    def chat(self) -> ChatFormat:
        """The renderer of the run's model."""
        return load_chat_format(self.base_model)

    def warm_up(self, stages: Iterable[str] = ("sft",)) -> None:
        """Start everything in the background: it takes long, and the first stages need little of it. The learner starts with
        the settings of the first of `stages` that trains."""
        self._begin("engines", self._start_engines)
        training = self._config.training_stages
        if first := next((training[name] for name in stages if name in training), None):
            self._begin("learner", self._learner_start(first.learner, first.optimizer, first.num_steps))

    async def play(self, request: GroupRequest) -> Group:
        """One group on a rollout worker."""
        workers: RolloutWorkers = await self._once("workers", self._start_workers)
        if uses_world_model(self._config) and not request.real:
            await self._once("world model connected", self._connect_world_model)
        if request.policy == "engine":
            await self._once("connected", self._connect_workers)
            await self._awake_engines()
        return await workers.play_group(request)

    async def try_patches(self, problem: Problem, preparation: Preparation, diffs: tuple[str, ...]) -> list[PatchSignals]:
        """What patches do to tests that need no oracle, on a rollout worker."""
        workers: RolloutWorkers = await self._once("workers", self._start_workers)
        return await workers.try_patches(problem, preparation, diffs)

    async def prefix_counts(self) -> tuple[float, float]:
        """Prompt tokens that the engines looked up in their prefix caches, and how many they found, since they started."""
        engines: EnginePool = await self._once("engines", self._start_engines)
        rows = await engines.stats()
        return sum(row["prompt_tokens"] for row in rows), sum(row["cached_tokens"] for row in rows)

    async def simulation_figures(self) -> dict[str, float]:
        """What simulated commands and rewards have cost on all rollout workers, and what their audits found: sums, but means of
        shares and residuals (verifier.hybrid_grading.HybridGrader.figures)."""
        workers: RolloutWorkers = await self._once("workers", self._start_workers)
        rows = await workers.stats()
        names = {name for row in rows for name in row if name.startswith(("world_", "reward_", "audit_"))}
        sums = {name: sum(row.get(name, 0.0) for row in rows) for name in sorted(names)}
        return {name: value / len(rows) if name in MEANS else value for name, value in sums.items()}

    async def counters(self) -> FleetCounters:
        """Running counts of the engines and rollout workers that are there; without those that do not answer."""
        engines: list[dict[str, float]] = []
        workers: list[dict[str, float]] = []
        seconds: list[dict[str, list[int]]] = []
        try:
            if "engines" in self._starting:
                engines = await (await self._once("engines", self._start_engines)).stats()
            if "workers" in self._starting:
                crew: RolloutWorkers = await self._once("workers", self._start_workers)
                workers, seconds = await asyncio.gather(crew.stats(), crew.seconds())
        except (PolicyError, RayError, TimeoutError) as error:
            logger.warning("no figures of engines and sandboxes for this step: %s", error)
        return FleetCounters(time.monotonic(), engines, workers, seconds)

    async def cut(self, task: Task, seed: int) -> None:
        """Let a group that is being played end with the members it has."""
        workers: RolloutWorkers = await self._once("workers", self._start_workers)
        await workers.cut_group(task.instance_id, seed)

    async def generate(self) -> RoutedGenerate:
        """The engines as a policy for this process."""
        return (await self._awake_engines()).policy()

    async def learner(
        self, model: Path, optimizer: OptimizerConfig, learner: LearnerConfig, num_steps: int, temperature: float = 1.0
    ) -> LearnerGroup:
        """The learner, ready to train `model` from optimizer step 0 on samples of this temperature. Ranks that were started with
        other settings are ended first; equal ones stay, which saves their start."""
        if self._ranks is not None and of_ranks(self._ranks) != of_ranks(learner):
            await self.drop_learner()
        group: LearnerGroup = await self._once("learner", self._learner_start(learner, optimizer, num_steps))
        await group.reset(str(model), optimizer, num_steps, temperature)
        return group

    async def drop_learner(self) -> None:
        """End the learner; the next `learner` starts another. One whose start failed is logged; what its end raises is raised."""
        starting = self._starting.pop("learner", None)
        if starting is None:
            return
        group: LearnerGroup | BaseException = (await asyncio.gather(starting, return_exceptions=True))[0]
        if isinstance(group, BaseException):
            logger.warning("no learner to end, its start failed: %s", group)
        else:
            await group.close()

    def _learner_start(self, learner: LearnerConfig, optimizer: OptimizerConfig, num_steps: int) -> Callable[[], Starting]:
        def start() -> Starting:
            self._ranks = learner
            return self._start_learner(learner, optimizer, num_steps)

        return start

    def model_folder(self, name: str) -> Path:
        """Where the model of that name lies: `base`, or the stage that trained it."""
        return self.base_model if name == "base" else self._folder.hf(name)

    async def serve(self, name: str) -> None:
        """Let the engines hold the model `name`: `base`, or the hf folder of a finished stage."""
        engines = await self._awake_engines()
        if name != self._served:
            self._served = ""
            await engines.load_model(str(self.model_folder(name)), 0)
            self._served = name

    async def serve_learner(
        self, learner: LearnerGroup, version: int, recent: Sequence[TrainSample] = ()
    ) -> tuple[float, dict[str, float]]:
        """Let the engines hold the learner's weights as policy `version`; returns seconds, and the metrics of the comparison.

        Engines and learner are compared on the beginnings of `recent` samples, or of a greeting when there are none. Raises
        WeightSyncError.
        """
        if self._colocated:
            await learner.release_memory()
        engines = await self._awake_engines()
        self._served = ""
        seconds = await learner.sync_weights(engines, version)
        config = self._config.engine.sync_check
        if not config.num_prompts:
            return seconds, {}
        prompts = [sample.token_ids for sample in recent[: config.num_prompts]] or [self._greeting()]
        return seconds, await sync_metrics(engines, learner.token_logprobs, prompts, version, config, learner.temperature)

    def _greeting(self) -> IntArray:
        return self.chat.prompt_ids((Message("user", "Say hello."),))

    async def rest_engines(self) -> None:
        """Before the learner computes: engines that share its place sleep until they are asked for again."""
        if self._colocated and "engines" in self._starting:
            engines: EnginePool = await self._once("engines", self._start_engines)
            await engines.sleep()
            if self._config.engine.sleep_level == 2:  # the weights are gone
                self._served = ""

    async def _awake_engines(self) -> EnginePool:
        engines: EnginePool = await self._once("engines", self._start_engines)
        await engines.wake()
        return engines

    @property
    def _colocated(self) -> bool:
        return self._config.cluster.placement == "colocated"

    async def close(self) -> None:
        """End all actors, then Ray. Idempotent; every part is tried even when another fails."""
        starts, self._starting = self._starting, {}
        for task in starts.values():
            task.cancel()
        started = await asyncio.gather(*starts.values(), return_exceptions=True)
        closing = {name: part.close() for name, part in zip(starts, started, strict=True) if hasattr(part, "close")}
        closed = await asyncio.gather(*closing.values(), return_exceptions=True)
        for name, error in (*zip(starts, started, strict=True), *zip(closing, closed, strict=True)):
            if isinstance(error, Exception):
                logger.warning("%s did not start or did not end cleanly: %r", name, error)
        self._resources.close()

    def _begin(self, name: str, start: Callable[[], Starting]) -> asyncio.Task[Any]:
        if name not in self._starting:
            self._starting[name] = asyncio.create_task(start(), name=f"start {name}")
        return self._starting[name]

    async def _once(self, name: str, start: Callable[[], Starting]) -> Any:
        """What `start` returns; it runs once for all who ask, also when one of them is cancelled. A failed start raises for all
        who wait; who asks after that starts again."""
        starting = self._begin(name, start)
        try:
            return await asyncio.shield(starting)
        finally:
            failed = starting.done() and (starting.cancelled() or starting.exception() is not None)
            if failed and self._starting.get(name) is starting:
                del self._starting[name]

    @cached_property
    def _placed(self) -> dict[str, Any]:
        """Joins or starts Ray, and reserves the run's placement groups."""
        plan, cluster = plan_placement(self._config), self._config.cluster
        with ExitStack() as placing:  # all of it or nothing: a later start may try again
            placing.enter_context(ray_session(cluster))
            groups = placing.enter_context(placed_groups(plan, cluster.placement_timeout_s, cluster.roles))
            self._resources.enter_context(placing.pop_all())
        return groups

    def _bundles(self, name: str) -> Any:
        return self._placed[COLOCATED if self._colocated else name]

    async def _start_engines(self) -> EnginePool:
        cluster = self._config.cluster
        return await EnginePool.start(
            str(self.base_model),
            replace(self._config.engine, weight_transfer=weight_transfer_of(self._config)),
            self._config.model.dtype,
            num_gpus=cluster.engine_gpus,
            placement_group=self._bundles("engines"),
            sleeps=self._colocated,
        )

    async def _start_world_model(self) -> EnginePool:
        """The trained world model on engines of its own, beside the policy's."""
        cluster = self._config.cluster
        return await EnginePool.start(
            str(self._folder.hf("world-model")),
            replace(self._config.engine, num_engines=self._config.world_model.num_engines),
            self._config.model.dtype,
            num_gpus=cluster.engine_gpus,
            placement_group=self._placed["world-model"],
        )

    async def _start_learner(self, learner: LearnerConfig, optimizer: OptimizerConfig, num_steps: int) -> LearnerGroup:
        return await LearnerGroup.start(
            str(self.base_model),
            self._config.model.dtype,
            optimizer,
            learner,
            num_steps,
            self._config.seed,
            num_gpus=self._config.cluster.learner_gpus,
            placement_group=self._bundles("learner"),
        )

    async def _start_workers(self) -> RolloutWorkers:
        # The run folder's name tells this run's sandboxes from those of another run on the same machine.
        config = replace(self._config, name=self._folder.root.name)
        journal = self._folder.root / "journal"
        journal.mkdir(exist_ok=True)
        return await RolloutWorkers.start(
            config, str(self.base_model), str(self._folder.images), str(journal), placement_group=self._placed["rollout"]
        )

    async def _connect_workers(self) -> None:
        workers: RolloutWorkers = await self._once("workers", self._start_workers)
        engines: EnginePool = await self._once("engines", self._start_engines)
        await workers.connect(engines.handles)

    async def _connect_world_model(self) -> None:
        workers: RolloutWorkers = await self._once("workers", self._start_workers)
        model = self._folder.hf("world-model")
        handles: list[Any] = []
        if not self._config.world_model.endpoint.base_url:
            pool: EnginePool = await self._once("world model", self._start_world_model)
            handles = pool.handles
        await workers.connect_world_model(handles, read_calibration(model, scorer_name(self._config.world_model)))
