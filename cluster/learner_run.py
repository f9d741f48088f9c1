"""The learner during one stage: begins or resumes, steps, logs, checkpoints, exports."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.metric_sinks import read_metrics
from cluster.stage import StageContext
from configs.optimizer_config import LearnerConfig, OptimizerConfig
from trainers.checkpoint import best_checkpoint, keep_best_and_last, keep_last, latest_checkpoint, record_score, step_folder
from trainers.loss_spec import LossSpec
from trainers.train_sample import TrainSample

CHECKPOINTS_KEPT = 2


class TrainingRun:
    """What trainers.sft_loop and trainers.grpo_loop call their learner. Make one with `begin`."""

    def __init__(self, context: StageContext, stage: str, learner: Any, start_step: int, num_steps: int) -> None:
        self._context, self._stage, self._learner = context, stage, learner
        self.start_step = start_step
        self._num_steps = num_steps
        self._unscored: set[int] = set()
        self._recent: list[TrainSample] = []
        self._sync_metrics: dict[str, float] = {}
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
    ) -> "TrainingRun":
        """The learner with the stage's newest checkpoint, or with `model` when there is none."""
        group = await context.fleet.learner(model, optimizer, learner, num_steps * updates_per_step)
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
        return {**metrics, "time/train_s": time.monotonic() - started}

    async def token_logprobs(self, samples: list[TrainSample]) -> list[npt.NDArray[np.float32]]:
        """Of every token under the learner's present weights."""
        await self._context.fleet.rest_engines()
        logprobs: list[npt.NDArray[np.float32]] = await self._learner.token_logprobs(samples)
        return logprobs

    async def reference_logprobs(self, samples: list[TrainSample]) -> list[npt.NDArray[np.float32]]:
        """Of every token under the weights that the stage began with."""
        await self._context.fleet.rest_engines()
        logprobs: list[npt.NDArray[np.float32]] = await self._learner.reference_logprobs(samples)
        return logprobs

    async def sync_weights(self, version: int) -> float:
        """Give the engines the learner's weights; returns the seconds it took. Their log-probs are compared on a few of the
        samples last trained on (engine.sync_check)."""
        seconds, self._sync_metrics = await self._context.fleet.serve_learner(self._learner, version, self._recent)
        return seconds

    async def serve_weights(self) -> None:
        """Before the first rollouts: the engines hold what the learner holds."""
        await self.sync_weights(self.start_step)

    async def save(self, step: int, score: float | None = None) -> None:
        """A checkpoint; `score` (lower is better) lets the best one stay beside the newest."""
        root = self._context.folder.checkpoints(self._stage)
        root.mkdir(parents=True, exist_ok=True)
        await self._learner.save(step_folder(root, step), {"step": step})
        if score is not None:
            record_score(step_folder(root, step), score)
        keep_best_and_last(root, CHECKPOINTS_KEPT, self._unscored)

    def expect_score(self, step: int) -> None:
        """The checkpoint of this step stays until its score is known."""
        self._unscored.add(step)

    def score(self, step: int, score: float | None) -> None:
        """How good the checkpoint of `step` is (lower is better), None when that could not be found out."""
        self._unscored.discard(step)
        root = self._context.folder.checkpoints(self._stage)
        if score is not None and step_folder(root, step).is_dir():
            record_score(step_folder(root, step), score)

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
        """Export the newest model, or the one with the best score, to hf/<stage> and leave only the newest checkpoint.
        Returns the step of the exported one."""
        root = self._context.folder.checkpoints(self._stage)
        step, best = self.saved_step(), best_checkpoint(root) if use_best else None
        if best is not None and best[0] != step:
            step, folder = best
            await self._learner.load(folder)
        await self._learner.export(self._context.folder.hf(self._stage))
        keep_last(root, 1)
        return step

    def summary(self, metric: str) -> dict[str, float]:
        """First and last value of a metric, and tokens in all, for the stage's record."""
        rows = read_metrics(self._context.folder.root, self._stage)
        values = [row[metric] for row in rows if metric in row]
        tokens = sum(row.get("tokens", 0) for row in rows)
        return {"first": values[0], "last": values[-1], "tokens": tokens} if values else {"tokens": tokens}
