"""Best-of-N rollouts of the training tasks by teachers."""

from typing import Any

from actors.worker_policies import LEDGERS
from cluster.episode_playing import play_tasks
from cluster.stage import Stage, StageContext
from cluster.task_selection import tasks_of
from envpool.endpoints.token_usage import read_ledgers, usage_record
from verifier.reward import Group


async def play_teachers(context: StageContext) -> dict[str, Any]:
    """Play every playable training task `rollout.num_samples` times."""
    config = context.config.rollout
    tasks = tasks_of(context, "train")
    groups = await play_tasks(context, "rollout", tasks, config.policies, config.num_samples, config.temperature)
    record = episode_counts(groups)
    if "endpoint" in config.policies:
        record["endpoint"] = endpoint_totals(context)
    return record


def endpoint_totals(context: StageContext) -> dict[str, float]:
    """What the endpoint took in this run so far, tries that were killed included; also logged as metrics."""
    ledgers = sorted((context.folder.root / "journal" / LEDGERS).glob("*.jsonl"))
    totals = usage_record(read_ledgers(ledgers))
    context.sinks.log("rollout", 0, {f"endpoint/{name}": value for name, value in totals.items()})
    tokens = f"{totals['prompt_tokens']:,.0f} prompt and {totals['completion_tokens']:,.0f} completion tokens"
    context.progress.say(
        f"rollout: the endpoint answered {totals['requests']:,.0f} requests, {tokens}, {totals['cost_usd']:.2f} USD"
    )
    return totals


def episode_counts(groups: list[Group]) -> dict[str, Any]:
    """Episodes, losses and resolved shares, in all and by policy."""
    by_policy: dict[str, dict[str, int]] = {}
    for group in groups:
        for member in group.members:
            row = by_policy.setdefault(member.trajectory.policy_name, {"episodes": 0, "resolved": 0})
            row["episodes"] += 1
            row["resolved"] += member.resolved
    episodes = sum(row["episodes"] for row in by_policy.values())
    resolved = sum(row["resolved"] for row in by_policy.values())
    return {
        "tasks": len(groups),
        "episodes": episodes,
        "lost": sum(len(group.lost) for group in groups),
        "resolved": resolved / max(episodes, 1),
        "by_policy": by_policy,
    }


STAGE = Stage("rollout", ("tasks",), play_teachers, asks_world_model=True)
