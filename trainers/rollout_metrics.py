"""What a step's groups say about the policy that played them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from envpool.agent.history_reads import num_history_reads
from envpool.trajectory import StopReason
from trainers.group_filter import has_spread
from verifier.group_rollout import CUT
from verifier.reward import Group

OUT_OF_BUDGET = (StopReason.MAX_TURNS, StopReason.MAX_TOKENS, StopReason.CONTEXT_FULL, StopReason.DEADLINE)


def rollout_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Means over the graded episodes; without any, only the counts.

    Rewards are of episodes that train, `rollout/resolved` of all that were graded. `rollout/lost` counts episodes that
    infrastructure broke or that were cut, `rollout/infra_failure` is the share of the former. docs/metrics.md has every name.
    """
    members = [member for group in groups for member in group.members]
    trained = [member for member in members if member.reward.train]
    metrics = {
        "rollout/groups": float(len(groups)),
        "rollout/episodes": float(len(members)),
        "rollout/lost": float(sum(len(group.lost) for group in groups)),
        "rollout/masked": float(len(members) - len(trained)),
    }
    if begun := len(members) + int(metrics["rollout/lost"]):
        broken = sum(lost.error != CUT for group in groups for lost in group.lost)
        metrics["rollout/infra_failure"] = broken / begun
    if trained:
        rewards = [member.reward.value for member in trained]
        metrics |= {"reward/mean": float(np.mean(rewards)), "reward/std": float(np.std(rewards))}
    if members:
        trajectories = [member.trajectory for member in members]
        written = [sum(len(turn.completion_ids) for turn in trajectory.turns) for trajectory in trajectories]
        metrics |= {
            "rollout/resolved": float(np.mean([member.resolved for member in members])),
            "rollout/zero_spread": float(np.mean([not has_spread(group) for group in groups])),
            "rollout/turns": float(np.mean([trajectory.num_turns for trajectory in trajectories])),
            "rollout/samples": float(np.mean([len(trajectory.samples) for trajectory in trajectories])),
            "rollout/tokens": float(np.mean([trajectory.num_tokens for trajectory in trajectories])),
            "rollout/completion_tokens": float(np.mean(written)),
            "rollout/truncated": float(np.mean([trajectory.stop_reason in OUT_OF_BUDGET for trajectory in trajectories])),
            "rollout/empty_patch": float(np.mean([trajectory.patch.is_empty for trajectory in trajectories])),
            "rollout/history_reads": float(np.mean([num_history_reads(turn.action for turn in t.turns) for t in trajectories])),
            "rollout/episode_s": float(np.mean([trajectory.seconds for trajectory in trajectories])),
        }
        for reason in StopReason:
            metrics[f"stop/{reason.value}"] = float(np.mean([trajectory.stop_reason is reason for trajectory in trajectories]))
    return metrics


def staleness_metrics(groups: Sequence[Group], version: int, max_staleness: int) -> dict[str, float]:
    """Batches between the weights that sampled a token and those that begin to train on it (`version`): mean and largest over the
    sampled tokens that may train, and how many were too old for that (`rollout/stale_tokens`)."""
    ages = version - _sampled_versions(groups)
    trained = ages[ages <= max_staleness]
    return {
        "rollout/staleness": float(trained.mean()) if len(trained) else 0.0,
        "rollout/staleness_max": float(trained.max()) if len(trained) else 0.0,
        "rollout/stale_tokens": float(len(ages) - len(trained)),
    }


def newest_version(group: Group) -> int:
    """Of the policies that sampled the group's tokens; -1 without any."""
    return int(_sampled_versions([group]).max(initial=-1))


def _sampled_versions(groups: Sequence[Group]) -> npt.NDArray[np.int32]:
    versions = [turn.policy_versions for group in groups for member in group.members for turn in member.trajectory.turns]
    return np.concatenate([np.zeros(0, np.int32), *versions])
