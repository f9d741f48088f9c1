"""Evaluation: K episodes per held-out task, pass@k with intervals, predictions in SWE-bench's format."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cluster.loop_evaluation import evaluation_metrics
from cluster.policy_playing import play_policy
from cluster.predictions_file import PREDICTIONS, write_predictions
from cluster.run_policies import AFTER_STAGE, trained_from
from cluster.stage import Stage, StageContext
from cluster.stages.rollout_stage import episode_counts
from cluster.task_selection import tasks_of
from envpool.task import Task
from verifier.estimates import Interval, bootstrap_interval, paired_difference, pass_at_k_per_task
from verifier.reward import Group


async def evaluate(context: StageContext, policy: str) -> dict[str, Any]:
    """Play the held-out tasks with `policy` (base, sft or grpo), in real sandboxes with real tests also where the run trains with
    a world model. Tasks that infrastructure left without an episode are counted and leave the denominator; they never count as
    failures."""
    config = context.config.tts
    tasks = tasks_of(context, "heldout")
    await context.fleet.serve(policy)
    stage = f"eval-{policy}"
    groups = await play_policy(context, stage, policy, tasks, config.num_candidates)
    context.sinks.log(stage, 0, evaluation_metrics(groups))
    played = [group for group in groups if group.members]
    per_task = {group.instance_id: [member.resolved for member in group.members] for group in played}
    record = {
        "policy": policy,
        "seed": context.config.seed,
        "num_tasks": len(played),
        "num_samples": config.num_candidates,
        "graders": sorted({member.grader for group in played for member in group.members}),
        "unplayed_tasks": len(groups) - len(played),
        "pass_at": pass_at_table(list(per_task.values()), config.num_candidates, config.num_bootstrap, config.seed),
        "turns": float(np.mean([member.trajectory.num_turns for group in played for member in group.members])),
        "per_task": {name: float(np.mean(outcomes)) for name, outcomes in per_task.items()},
        **episode_counts(played),
    }
    records = context.folder.stage_records()
    initial = trained_from(records)
    before = records.get(f"eval-{initial}")
    if policy == "grpo" and before is not None:
        record["gain"] = gain_over(before["per_task"], record["per_task"], config.num_bootstrap, config.seed)
        record["gain_over"] = initial
    record["turn_budgets"] = await turn_scaling(context, policy, tasks, played)
    first = [(group.instance_id, group.members[0].trajectory.patch.diff) for group in played]  # pass@1: nothing is chosen
    write_predictions(context.folder.root / PREDICTIONS, f"{context.folder.root.name}/{stage}", first)
    return record


async def turn_scaling(
    context: StageContext, policy: str, tasks: Sequence[Task], whole: Sequence[Group]
) -> dict[str, list[float]]:
    """`{budget: [pass@1, low, high, mean turns]}`: the tasks played with every limit of turns in `tts.turn_budgets`.

    The episodes that were played `whole`, with the run's own limit, are the last point.
    """
    config, own = context.config.tts, context.config.rollout.episode.max_turns
    table = {}
    for budget in sorted({*config.turn_budgets, own} if config.turn_budgets else ()):
        groups: Sequence[Group] = whole
        if budget != own:
            name = f"eval-{policy}-turns-{budget}"
            groups = await play_policy(context, name, policy, tasks, config.turn_budget_samples, max_turns=budget)
        table[str(budget)] = turn_point([group for group in groups if group.members], config.num_bootstrap, config.seed)
    return table


def turn_point(groups: Sequence[Group], num_bootstrap: int, seed: int) -> list[float]:
    """[pass@1, low, high, mean turns] of groups with members."""
    solved = [float(np.mean([member.resolved for member in group.members])) for group in groups]
    turns = [member.trajectory.num_turns for group in groups for member in group.members]
    return [*estimate(bootstrap_interval(solved, num_bootstrap, seed)), float(np.mean(turns))]


def pass_at_table(outcomes: list[list[bool]], most: int, num_bootstrap: int, seed: int) -> dict[str, list[float]]:
    """`{"k": [pass@k, low, high]}` for k = 1..most; tasks with fewer than k episodes are left out of that k."""
    table = {}
    for k in range(1, most + 1):
        values = pass_at_k_per_task(outcomes, k)
        if len(values):
            table[str(k)] = estimate(bootstrap_interval(values, num_bootstrap, seed))
    return table


def gain_over(before: dict[str, float], after: dict[str, float], num_bootstrap: int, seed: int) -> list[float]:
    """Paired difference of pass@1 over the tasks that both evaluations played: [difference, low, high]."""
    both = sorted(before.keys() & after.keys())
    return estimate(paired_difference([before[name] for name in both], [after[name] for name in both], num_bootstrap, seed))


def estimate(interval: Interval) -> list[float]:
    """[mean, low, high], as records keep it."""
    return [interval.mean, interval.low, interval.high]


async def evaluate_base(context: StageContext) -> dict[str, Any]:
    return await evaluate(context, "base")


async def evaluate_sft(context: StageContext) -> dict[str, Any]:
    return await evaluate(context, "sft")


async def evaluate_grpo(context: StageContext) -> dict[str, Any]:
    return await evaluate(context, "grpo")


BASE = Stage("eval-base", (AFTER_STAGE["base"],), evaluate_base)
SFT = Stage("eval-sft", (AFTER_STAGE["sft"],), evaluate_sft)
GRPO = Stage("eval-grpo", (AFTER_STAGE["grpo"],), evaluate_grpo)
