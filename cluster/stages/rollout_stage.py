"""Best-of-N rollouts of the training tasks by teachers."""

from typing import Any

from cluster.episode_playing import play_tasks
from cluster.stage import Stage, StageContext
from cluster.task_selection import tasks_of
from verifier.reward import Group


async def play_teachers(context: StageContext) -> dict[str, Any]:
    """Play every playable training task `rollout.num_samples` times."""
    config = context.config.rollout
    tasks = tasks_of(context, "train")
    groups = await play_tasks(context, "rollout", tasks, config.policies, config.num_samples, config.temperature)
    return episode_counts(groups)


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


STAGE = Stage("rollout", ("tasks",), play_teachers)
