"""The one reinforcement-learning loop: play groups, turn them into samples, step, hand out the new weights.

Everything expensive is passed in, so this file knows neither Ray nor torch. docs/grpo.md has the picture.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from configs.grpo_config import GRPOConfig
from trainers.group_filter import flat_groups_in_a_row, num_to_replace, require_signal
from trainers.group_ledger import GroupLedger
from trainers.policy_update import PolicyLearner, update_policy
from trainers.rollout_metrics import staleness_metrics
from trainers.rollout_window import Played, Rollouts, RolloutWindow
from trainers.step_seconds import ROLLOUTS, StepSeconds
from verifier.reward import Group

OnStep = Callable[[int, dict[str, float], list[Group]], None]
"""Called after each step with the number of steps done, the metrics and the groups that were trained on."""
OnSeconds = Callable[[int, dict[str, float], list[Group]], None]
"""Called when a step is over, its checkpoint included: steps done, closed spans of trainers.step_seconds, the step's groups."""


class GroupPlan(Protocol):
    """What steps play and what it is worth; the same answer whenever it is asked, so that a resumed run goes on alike."""

    def tasks(self, step: int) -> list[str]:
        """The `groups_per_step` task ids of a step."""
        ...

    def spares(self, step: int, round_: int, used: set[str], count: int) -> list[str]:
        """Other tasks to play instead of groups without spread; `used` are those the step has played."""
        ...

    def shape(self, step: int, groups: list[Group]) -> list[Group]:
        """Groups as they were played -> groups with the rewards that train."""
        ...


class Learner(PolicyLearner, Protocol):
    async def sync_weights(self, version: int) -> float:
        """Give the engines the current weights under this version; returns the seconds it took."""
        ...

    async def save(self, step: int) -> None:
        """Checkpoint after `step` steps."""
        ...


class StepHook(Protocol):
    """What goes on beside the loop: evaluation."""

    def after_step(self, step: int) -> bool:
        """Called when the engines hold the weights of `step`; must not wait. True: this step deserves a checkpoint."""
        ...

    def enough(self) -> bool:
        """Whether training should end early."""
        ...


class NoHook:
    def after_step(self, step: int) -> bool:
        return False

    def enough(self) -> bool:
        return False


async def run_grpo(
    config: GRPOConfig,
    plan: GroupPlan,
    rollouts: Rollouts,
    learner: Learner,
    ledger: GroupLedger,
    start_step: int,
    on_step: OnStep,
    hook: StepHook | None = None,
    on_seconds: OnSeconds = lambda step, spans, groups: None,
) -> int:
    """Train from `start_step` steps (batches trained on) done to `config.num_steps`; the engines must hold the weights of
    `start_step`. Returns the number of steps done.

    1. Begins groups until `max_staleness` + 1 steps' worth are in flight (0: this step's own).
    2. Waits until `groups_per_step` are finished; the oldest train, whichever step they were planned for. What a later step
       could not train any more is waited for until `step_timeout_s` and then cut, or masked, or dropped (`late_groups`). Their
       rewards become the plan's. With zero_spread_groups=replace, spares are played in place of groups without spread.
    3. Puts on record which groups it takes, trains on them, 4. hands the new weights to the engines, 5. saves every
       `checkpoint_every` steps and at the end.

    Steps that an earlier process of this run had taken groups for are trained again on the same groups, without playing.
    The loop also ends when `hook` has enough; finished steps are saved first. Raises RolloutsFailedError when a step has nothing
    to train on, NoLearningSignalError after `max_flat_groups` groups in a row without spread (finished steps are saved first; a
    resumed run counts from 0). Whatever is still being played is cancelled on the way out, also when this is cancelled (Ctrl-C).
    """
    window = RolloutWindow(config, plan.tasks, rollouts, ledger)
    hook = hook or NoHook()
    saved, flat, step = start_step, 0, start_step
    try:
        while step < config.num_steps and not hook.enough():
            seconds = StepSeconds(asyncio.get_running_loop().time)
            with seconds.span(ROLLOUTS):
                groups, metrics = await _step_groups(config, plan, window, step)
            flat = flat_groups_in_a_row(groups, flat)
            metrics |= staleness_metrics(groups, step, config.max_staleness) | window.state.metrics()
            with seconds.span("train"):
                metrics |= await update_policy(config, learner, groups, step - config.max_staleness)
            step += 1
            with seconds.span("sync"):
                metrics["time/sync_s"] = await learner.sync_weights(step)
            metrics |= {"time/rollout_wait_s": seconds.spent(ROLLOUTS), "time/train_s": seconds.spent("train")}
            metrics["rollout/flat_in_a_row"] = float(flat)
            wanted = hook.after_step(step)
            on_step(step, metrics, groups)  # before the checkpoint: what a resumed run reads of a step must be there with it
            if wanted or step % config.checkpoint_every == 0 or step == config.num_steps:
                with seconds.span("checkpoint"):
                    await learner.save(step)
                saved = step
            on_seconds(step, seconds.close(), groups)
            if 0 < config.max_flat_groups <= flat:
                if saved < step:
                    await learner.save(step)
                require_signal(flat, groups, config.max_flat_groups)
        if saved < step:
            await learner.save(step)
    finally:
        await window.close()
    return step


async def _step_groups(
    config: GRPOConfig, plan: GroupPlan, window: RolloutWindow, step: int
) -> tuple[list[Group], dict[str, float]]:
    """The groups that the step trains on with their shaped rewards."""
    before = window.taken_before(step)
    if before is not None:
        return plan.shape(step, before), {}
    window.open(step)
    batch, metrics = await window.collect(step)
    groups = plan.shape(step, [group for _, group in batch])
    added = await _replacements(config, plan, window, step, groups)
    window.take(step, batch + added)
    groups += plan.shape(step, [group for _, group in added])
    return groups, metrics | {"rollout/replacements": float(len(added))}


async def _replacements(
    config: GRPOConfig, plan: GroupPlan, window: RolloutWindow, step: int, groups: list[Group]
) -> list[Played]:
    """Groups of other tasks, played so that enough groups of the step have spread."""
    used, added = {group.instance_id for group in groups}, list[Played]()
    index = config.groups_per_step
    for round_ in range(config.max_replacement_rounds):
        shaped = groups + plan.shape(step, [group for _, group in added])
        missing = num_to_replace(shaped, config.groups_per_step, config.zero_spread_groups)
        task_ids = plan.spares(step, round_, used, missing) if missing else []
        if not task_ids:
            break
        added += await window.play_now(step, index, task_ids)
        used |= set(task_ids)
        index += len(task_ids)
    return added
