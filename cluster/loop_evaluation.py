"""Evaluation beside the training: held-out tasks by whatever weights the engines hold, never waited for until the end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import numpy as np

from configs.grpo_config import GRPOConfig
from trainers.early_stopping import has_stalled
from verifier.reward import Group

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

    `known` are scores of earlier processes by step. A failed evaluation is logged and costs nothing else.
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
            await self.close()

    async def close(self) -> None:
        """Cancel the evaluation that still runs."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})

    async def _evaluate(self, step: int) -> None:
        score = None
        try:
            played = await asyncio.gather(*(self._play(step, task_id) for task_id in self._task_ids), return_exceptions=True)
            for error in (outcome for outcome in played if isinstance(outcome, BaseException)):
                logger.warning("evaluation after step %s: a task was lost: %r", step, error)
            metrics = evaluation_metrics([group for group in played if isinstance(group, Group)])
            if "eval/resolved" in metrics:
                self.scores[step] = metrics["eval/resolved"]
                score = -metrics["eval/resolved"]
                self._on_score(step, {**metrics, "eval/skipped": float(self.skipped)})
        finally:
            self._checkpoints.score(step, score)


def evaluation_metrics(groups: list[Group]) -> dict[str, float]:
    """pass@1 (mean over tasks of the resolved share), what was lost, and which policy versions sampled: the weights may have
    changed in between. Without an episode only the count of lost ones."""
    members = [member for group in groups for member in group.members]
    metrics = {"eval/episodes": float(len(members)), "eval/lost": float(sum(len(group.lost) for group in groups))}
    shares = [np.mean([member.resolved for member in group.members]) for group in groups if group.members]
    versions = [turn.policy_versions for member in members for turn in member.trajectory.turns if len(turn.policy_versions)]
    if shares:
        metrics |= {"eval/tasks": float(len(shares)), "eval/resolved": float(np.mean(shares))}
    if versions:
        metrics["eval/version_min"] = float(min(found.min() for found in versions))
        metrics["eval/version_max"] = float(max(found.max() for found in versions))
    return metrics
