"""The one reinforcement-learning loop: play groups, turn them into samples, step, hand out the new weights.

Everything expensive is passed in, so this file knows neither Ray nor torch.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol

from configs.grpo_config import GRPOConfig
from trainers.group_filter import flat_groups_in_a_row, num_to_replace, require_signal
from trainers.policy_update import PolicyLearner, update_policy
from trainers.rollout_metrics import mean_staleness
from verifier.reward import Group

logger = logging.getLogger(__name__)

CANCEL_S = 60.0
"""Cancelled rollouts have this long to close their sandboxes."""

Sampler = Callable[[int], list[str]]
"""Task ids of a step, the same whenever it is asked: a resumed run sees the order of an unbroken one."""

OnStep = Callable[[int, dict[str, float], list[Group]], None]
"""Called after each optimizer step with the number of steps done, the metrics and the groups that were trained on."""


Shape = Callable[[int, list[Group]], list[Group]]
"""(step, groups as they were played) -> groups with the rewards that train."""

Spares = Callable[[int, int, set[str], int], list[str]]
"""(step, round, tasks used in the step, how many) -> other tasks to play instead of groups without spread."""


class Rollouts(Protocol):
    async def play(self, step: int, index: int, task_id: str, version: int) -> Group:
        """All episodes of the `index`-th task of a step, by weights of at least `version` (= optimizer steps done)."""
        ...


class Learner(PolicyLearner, Protocol):
    async def sync_weights(self, version: int) -> float:
        """Give the engines the current weights under this version; returns the seconds it took."""
        ...

    async def save(self, step: int) -> None:
        """Checkpoint after `step` optimizer steps."""
        ...


class RolloutsFailedError(RuntimeError):
    """No group of a step could be played."""


async def run_grpo(
    config: GRPOConfig,
    sampler: Sampler,
    rollouts: Rollouts,
    learner: Learner,
    start_step: int,
    on_step: OnStep,
    stop: asyncio.Event,
    shape: Shape = lambda step, groups: groups,
    spares: Spares = lambda step, round_, used, count: [],
) -> None:
    """Train from `start_step` optimizer steps done to `config.num_steps`; the engines must hold the weights of `start_step`.

    1. Starts the rollouts of this step and of up to `max_staleness` later ones (0: synchronous), so that no group trains on
       weights more than `max_staleness` steps older than the learner's.
    2. Waits for this step's groups, at most `step_timeout_s`. Late ones are cancelled, failed ones left out; both are counted.
       Their rewards become `shape`'s. With zero_spread_groups=replace, `spares` are played in place of groups without spread.
    3. Trains on them, 4. hands the new weights to the engines, 5. saves every `checkpoint_every` steps and at the end.

    `stop` ends the loop while it waits for rollouts or between steps; finished steps are saved first. Raises
    RolloutsFailedError when not one group of a step arrived, NoLearningSignalError after `max_flat_groups` groups in a row
    without spread (finished steps are saved first; a resumed run counts from 0). Whatever is still
    being played is cancelled on the way out.
    """
    window = _RolloutWindow(sampler, rollouts)
    saved = start_step
    flat = 0
    step = start_step
    try:
        while step < config.num_steps and not stop.is_set():
            window.open_until(step, min(step + config.max_staleness, config.num_steps - 1))
            began = time.monotonic()
            groups, missing = await window.collect(step, config.step_timeout_s, stop)
            groups = shape(step, groups)
            groups, replaced = await _replaced(config, window, step, groups, shape, spares, stop)
            if stop.is_set():
                break
            flat = flat_groups_in_a_row(groups, flat)
            metrics = {
                "time/rollout_wait_s": time.monotonic() - began,
                "rollout/staleness": mean_staleness(groups, step),
                "rollout/replacements": float(replaced),
                "rollout/flat_in_a_row": float(flat),
            } | missing
            metrics |= await _train(config, learner, groups)
            step += 1
            metrics["time/sync_s"] = await learner.sync_weights(step)
            if step % config.checkpoint_every == 0 or step == config.num_steps:
                await learner.save(step)
                saved = step
            window.task_ids.pop(step - 1)
            on_step(step, metrics, groups)
            if 0 < config.max_flat_groups <= flat:
                if saved < step:
                    await learner.save(step)
                require_signal(flat, groups, config.max_flat_groups)
        if saved < step:
            await learner.save(step)
    finally:
        await window.close()


async def _train(config: GRPOConfig, learner: Learner, groups: list[Group]) -> dict[str, float]:
    began = time.monotonic()
    metrics = await update_policy(config, learner, groups)
    return metrics | {"time/train_s": time.monotonic() - began}


async def _replaced(
    config: GRPOConfig,
    window: "_RolloutWindow",
    step: int,
    groups: list[Group],
    shape: Shape,
    spares: Spares,
    stop: asyncio.Event,
) -> tuple[list[Group], int]:
    """The groups and those of other tasks that were played so that enough of them have spread; how many were added."""
    used = set(window.task_ids[step])
    wanted, first = len(window.task_ids[step]), len(groups)
    for round_ in range(config.max_replacement_rounds):
        missing = num_to_replace(groups, wanted, config.zero_spread_groups)
        task_ids = spares(step, round_, used, missing) if missing and not stop.is_set() else []
        if not task_ids:
            break
        more = await window.play_now(step, wanted + len(used), task_ids, config.step_timeout_s, stop)
        used |= set(task_ids)
        groups = groups + shape(step, more)
    return groups, len(groups) - first


class _RolloutWindow:
    """The groups being played, by step (-1: replacements)."""

    def __init__(self, sampler: Sampler, rollouts: Rollouts) -> None:
        self._sampler, self._rollouts = sampler, rollouts
        self.task_ids: dict[int, list[str]] = {}
        self._running: dict[int, list[asyncio.Task[Group]]] = {}

    def open_until(self, version: int, last_step: int) -> None:
        """Start what is not running yet of the steps `version` to `last_step`, with weights of `version`."""
        for step in range(version, last_step + 1):
            if step not in self._running:
                self.task_ids[step] = self._sampler(step)
                self._running[step] = [
                    asyncio.create_task(
                        self._rollouts.play(step, index, task_id, version), name=f"group {step}/{index} {task_id}"
                    )
                    for index, task_id in enumerate(self.task_ids[step])
                ]

    async def collect(self, step: int, timeout_s: float, stop: asyncio.Event) -> tuple[list[Group], dict[str, float]]:
        """The groups of a step in their order, and how many are missing for which reason; empty when `stop` was set."""
        tasks = self._running[step]
        if not tasks:
            raise RolloutsFailedError(f"step {step + 1}: the sampler named no task")
        groups, late, failed = await _finished(tasks, timeout_s, stop)
        if stop.is_set():
            return [], {}
        del self._running[step]
        if not any(group.members for group in groups):
            raise RolloutsFailedError(_why_nothing(step, late, failed, groups, timeout_s))
        return groups, {"rollout/late_groups": float(late), "rollout/failed_groups": float(len(failed))}

    async def play_now(self, step: int, index: int, task_ids: list[str], timeout_s: float, stop: asyncio.Event) -> list[Group]:
        """Groups of further tasks of a step, with the step's own weights; those that are late or fail are left out."""
        tasks = [
            asyncio.create_task(self._rollouts.play(step, index + offset, task_id, step), name=f"group {step} {task_id}")
            for offset, task_id in enumerate(task_ids)
        ]
        self._running[-1] = tasks
        groups, _, _ = await _finished(tasks, timeout_s, stop)
        if not stop.is_set():
            del self._running[-1]
        return groups

    async def close(self) -> None:
        """Cancel everything that still runs and wait until it has ended."""
        running, self._running = self._running, {}
        await _cancel([task for tasks in running.values() for task in tasks])


async def _finished(
    tasks: list[asyncio.Task[Group]], timeout_s: float, stop: asyncio.Event
) -> tuple[list[Group], int, list[asyncio.Task[Group]]]:
    """The groups that were there in time, the number of late ones (cancelled), the failed ones; nothing when `stop` was set."""
    stopped = asyncio.create_task(stop.wait())
    everything = asyncio.ensure_future(asyncio.wait(tasks))
    try:
        await asyncio.wait({stopped, everything}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        everything.cancel()
    if stop.is_set():
        return [], 0, []
    late = [task for task in tasks if not task.done()]
    failed = [task for task in tasks if task.done() and not task.cancelled() and task.exception() is not None]
    await _cancel(late)
    for task in failed:
        logger.warning("%s was lost: %r", task.get_name(), task.exception())
    groups = [task.result() for task in tasks if task not in late and task not in failed and not task.cancelled()]
    return groups, len(late), failed


def _why_nothing(step: int, late: int, failed: list[asyncio.Task[Group]], groups: list[Group], timeout_s: float) -> str:
    """One line for the error when a step has no episode to train on."""
    errors = [f"{type(task.exception()).__name__}: {task.exception()}" for task in failed]
    errors += [lost.error for group in groups for lost in group.lost]
    first = f"; first error: {errors[0]}" if errors else ""
    return (
        f"step {step + 1}: no episode to train on ({late} groups not there after {timeout_s:g} s, {len(failed)} failed, "
        f"{sum(len(group.lost) for group in groups)} episodes lost){first}"
    )


async def _cancel(tasks: list[asyncio.Task[Group]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        _, stubborn = await asyncio.wait(tasks, timeout=CANCEL_S)
        for task in stubborn:
            logger.error("%s does not end %g s after it was cancelled and is left behind", task.get_name(), CANCEL_S)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()  # seen, so that asyncio does not complain about it
