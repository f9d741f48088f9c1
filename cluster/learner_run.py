"""The learner during one stage: begins or resumes, steps, logs, checkpoints, exports."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actors.learner_group import planned_tokens
from cluster.fleet_figures import FleetCounters, fleet_metrics, gpus_of, idle_metrics
from cluster.metric_sinks import read_metrics
from cluster.stage import StageContext
from configs.optimizer_config import LearnerConfig, OptimizerConfig
from trainers.checkpoint import best_checkpoint, keep_best_and_last, latest_checkpoint, record_score, step_folder
from trainers.loss_spec import LossSpec
from trainers.train_sample import TrainSample
from trainers.training_speed import speed_metrics, training_flops

CHECKPOINTS_KEPT = 2


class TrainingRun:
    """What trainers.sft_loop and trainers.grpo_loop call their learner. Make one with `begin`."""

    def __init__(self, context: StageContext, stage: str, learner: Any, start_step: int, num_steps: int) -> None:
        self._context, self._stage, self._learner = context, stage, learner
        self.start_step = start_step
        self._num_steps = num_steps
        self._unscored: set[int] = set()
        self._scores: dict[int, float] = {}
        self._recent: list[TrainSample] = []
        self._sync_metrics: dict[str, float] = {}
        self._counters = FleetCounters()
        self._computed_s = 0.0
        self._progress = context.progress.stage(stage, num_steps)
        self._progress.advance(start_step)

    @classmethod
    async def begin(
        cls,
        context: StageContext,
        stage: str,
        model: Path,
        optimizer: OptimizerConfig,
        learner: LearnerConfig,
        num_steps: int,
        updates_per_step: int = 1,
        temperature: float = 1.0,
    ) -> "TrainingRun":
        """The learner with the stage's newest checkpoint, or with `model` when there is none. `temperature` is what the samples
        are drawn at."""
        group = await context.fleet.learner(model, optimizer, learner, num_steps * updates_per_step, temperature)
        found = latest_checkpoint(context.folder.checkpoints(stage))
        if found is None:
            return cls(context, stage, group, 0, num_steps)
        step, folder = found
        await group.load(folder)
        return cls(context, stage, group, step, num_steps)

    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
        started = time.monotonic()
        self._recent = samples
        await self._context.fleet.rest_engines()
        metrics: dict[str, float] = await self._learner.train_step(samples, loss)
        seconds = time.monotonic() - started
        self._computed_s += seconds
        return {**metrics, **await self._speed([planned_tokens(sample, loss) for sample in samples], seconds)}

    async def _speed(self, lengths: list[int], seconds: float) -> dict[str, float]:
        """Of a step over sequences of these lengths, by the learner's size and device; nothing when nothing was computed."""
        if not any(lengths):
            return {}
        facts = await self._learner.facts()
        flops, num_ranks = training_flops(facts.size, lengths), len(self._learner.ranks)
        speed = speed_metrics(flops, float(sum(lengths)), seconds, num_ranks, facts.device)
        return {**speed, "perf/peak_memory_gib": facts.peak_memory_gib}

    async def token_logprobs(self, samples: list[TrainSample]) -> list[npt.NDArray[np.float32]]:
        """Of every token under the learner's present weights."""
        await self._context.fleet.rest_engines()
        return await self._logprobs(self._learner.token_logprobs, samples)

    async def reference_logprobs(self, samples: list[TrainSample]) -> list[npt.NDArray[np.float32]]:
        """Of every token under the weights that the stage began with."""
        await self._context.fleet.rest_engines()
        return await self._logprobs(self._learner.reference_logprobs, samples)

    async def _logprobs(self, compute: Any, samples: list[TrainSample]) -> list[npt.NDArray[np.float32]]:
        started = time.monotonic()
        logprobs: list[npt.NDArray[np.float32]] = await compute(samples)
        self._computed_s += time.monotonic() - started
        return logprobs

    async def sync_weights(self, version: int) -> float:
        """Give the engines the learner's weights; returns the seconds it took. Their log-probs are compared on a few of the
        samples last trained on (engine.sync_check)."""
        seconds, gap = await self._context.fleet.serve_learner(self._learner, version, self._recent)
        self._sync_metrics = gap | await self._since_last_sync()
        return seconds

    async def _since_last_sync(self) -> dict[str, float]:
        """What engines, sandboxes and the learner did since the weights were handed over before; nothing the first time."""
        before, self._counters = self._counters, await self._context.fleet.counters()
        computed_s, self._computed_s = self._computed_s, 0.0
        if not before.time_s:
            return {}
        metrics = fleet_metrics(before, self._counters)
        wall_s = self._counters.time_s - before.time_s
        return metrics | idle_metrics(metrics.get("perf/engine_idle"), computed_s, wall_s, gpus_of(self._context.config))

    @property
    def engine_queue_share(self) -> float:
        """Of the seconds of the engines' requests since the last hand-over: waiting to be let in."""
        return self._sync_metrics.get("engine/queue_share", 0.0)

    async def serve_weights(self) -> None:
        """Before the first rollouts: the engines hold what the learner holds."""
        await self.sync_weights(self.start_step)

    async def save(self, step: int, score: float | None = None) -> None:
        """A checkpoint; `score` (lower is better) lets the best one stay beside the newest."""
        root = self._context.folder.checkpoints(self._stage)
        root.mkdir(parents=True, exist_ok=True)
        await self._learner.save(step_folder(root, step), {"step": step})
        score = self._scores.get(step) if score is None else score
        if score is not None:
            record_score(step_folder(root, step), score)
        keep_best_and_last(root, CHECKPOINTS_KEPT, self._unscored)

    def expect_score(self, step: int) -> None:
        """The checkpoint of this step stays until its score is known."""
        self._unscored.add(step)

    def score(self, step: int, score: float | None) -> None:
        """How good the checkpoint of `step` is (lower is better), None when that could not be found out. `save` writes the score
        of a checkpoint that is not there yet."""
        self._unscored.discard(step)
        if score is None:
            return
        self._scores[step] = score
        folder = step_folder(self._context.folder.checkpoints(self._stage), step)
        if folder.is_dir():
            record_score(folder, score)

    def saved_step(self) -> int:
        """The newest checkpoint's step, 0 without one."""
        found = latest_checkpoint(self._context.folder.checkpoints(self._stage))
        return found[0] if found else 0

    def on_step(self, note: str) -> Callable[[int, Mapping[str, float]], None]:
        """A callback that logs a step's metrics and shows the one named `note`."""

        def log(step: int, metrics: Mapping[str, float]) -> None:
            self._context.sinks.log(self._stage, step, {**metrics, **self._sync_metrics})
            self._progress.advance()
            if note in metrics:
                self._progress.note(f"{note} {metrics[note]:.3f}")

        return log

    async def finish(self, use_best: bool = False) -> int:
        """Export the newest model, or the one with the best score, to hf/<stage> and leave these two checkpoints: who runs the
        stage again exports the same one. Returns the step of the exported one."""
        root = self._context.folder.checkpoints(self._stage)
        step, best = self.saved_step(), best_checkpoint(root) if use_best else None
        if best is not None and best[0] != step:
            step, folder = best
            await self._learner.load(folder)
        await self._learner.export(self._context.folder.hf(self._stage))
        keep_best_and_last(root, 1)
        return step

    def summary(self, metric: str) -> dict[str, float]:
        """First and last value of a metric, and tokens in all, for the stage's record."""
        rows = read_metrics(self._context.folder.root, self._stage)
        values = [row[metric] for row in rows if metric in row]
        tokens = sum(row.get("tokens", 0) for row in rows)
        return {"first": values[0], "last": values[-1], "tokens": tokens} if values else {"tokens": tokens}
