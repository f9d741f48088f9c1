"""Evaluation beside the training: held-out tasks by whatever weights the engines hold, never waited for until the end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import numpy as np

from cluster.concurrent_calls import all_at_once
from configs.grpo_config import GRPOConfig
from trainers.early_stopping import has_stalled
from trainers.rollout_window import INFRASTRUCTURE
from verifier.reward import Group, LostEpisode

logger = logging.getLogger(__name__)

Play = Callable[[int, str], Awaitable[Group]]
"""Plays a held-out task `eval_samples` times for the evaluation after a step."""
OnScore = Callable[[int, Mapping[str, float]], None]
"""Called with the step and the metrics of a finished evaluation."""


class ScoredCheckpoints(Protocol):
    def expect_score(self, step: int) -> None: ...

    def score(self, step: int, score: float | None) -> None: ...


class LoopEvaluation:
    """trainers.grpo_loop's StepHook. One evaluation at a time: one that is due while another runs is left out and counted.

    `known` are scores of earlier processes by step. A task that infrastructure broke is logged and counted as `eval_samples`
    lost episodes, and its evaluation gives no score, since means over different tasks do not compare. Any other error is raised
    by the next `after_step` or by `finish`.
    """

    def __init__(
        self,
        config: GRPOConfig,
        task_ids: list[str],
        play: Play,
        checkpoints: ScoredCheckpoints,
        on_score: OnScore,
        known: Mapping[int, float],
    ) -> None:
        self._config, self._task_ids, self._play = config, task_ids, play
        self._checkpoints, self._on_score = checkpoints, on_score
        self.scores = dict(known)
        for step, resolved in known.items():
            checkpoints.score(step, -resolved)  # a death may have kept it from the checkpoint
        self.skipped = 0
        self._running: asyncio.Task[None] | None = None

    def after_step(self, step: int) -> bool:
        self._raise_failure()
        config = self._config
        if config.eval_every < 1 or step % config.eval_every or step in self.scores:
            return False
        if self._running is not None and not self._running.done():
            self.skipped += 1
            return False
        self._checkpoints.expect_score(step)
        self._running = asyncio.create_task(self._evaluate(step), name=f"evaluation after step {step}")
        return True

    def enough(self) -> bool:
        return has_stalled(self.scores, self._config.patience)

    async def finish(self) -> None:
        """Wait for the evaluation that still runs, at most `step_timeout_s`."""
        if self._running is not None:
            await asyncio.wait({self._running}, timeout=self._config.step_timeout_s)
            self._raise_failure()
            await self.close()

    async def close(self) -> None:
        """Cancel the evaluation that still runs. An error of it that nobody has seen is logged."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})
            try:
                self._raise_failure()
            except Exception:
                logger.exception("the evaluation failed")

    def _raise_failure(self) -> None:
        running = self._running
        if running is not None and running.done():
            self._running = None
            if not running.cancelled():
                running.result()

    async def _evaluate(self, step: int) -> None:
        score = None
        try:
            metrics = evaluation_metrics(await all_at_once(self._played(step, task_id) for task_id in self._task_ids))
            if "eval/resolved" in metrics:
                self.scores[step] = metrics["eval/resolved"]
                score = -metrics["eval/resolved"]
            else:
                logger.warning("evaluation after step %s: no score, not every task was played", step)
            self._on_score(step, {**metrics, "eval/skipped": float(self.skipped)})
        finally:
            self._checkpoints.score(step, score)

    async def _played(self, step: int, task_id: str) -> Group:
        try:
            return await self._play(step, task_id)
        except INFRASTRUCTURE as error:
            logger.warning("evaluation after step %s: %s was lost: %r", step, task_id, error)
            lost = (LostEpisode(index, f"{type(error).__name__}: {error}") for index in range(self._config.eval_samples))
            return Group(task_id, (), tuple(lost))


def evaluation_metrics(groups: list[Group]) -> dict[str, float]:
    """pass@1 (mean over tasks of the resolved share; only when each has an episode), what was lost, and which policy versions
    sampled: the weights may have changed in between."""
    members = [member for group in groups for member in group.members]
    metrics = {"eval/episodes": float(len(members)), "eval/lost": float(sum(len(group.lost) for group in groups))}
    shares = [np.mean([member.resolved for member in group.members]) for group in groups if group.members]
    versions = [turn.policy_versions for member in members for turn in member.trajectory.turns if len(turn.policy_versions)]
    metrics["eval/tasks"] = float(len(shares))
    if groups and len(shares) == len(groups):
        metrics["eval/resolved"] = float(np.mean(shares))
    if versions:
        metrics["eval/version_min"] = float(min(found.min() for found in versions))
        metrics["eval/version_max"] = float(max(found.max() for found in versions))
    return metrics
