"""From trajectories to samples: turns are concatenated as they were sampled, nothing is rendered or tokenised again."""

import numpy as np
import numpy.typing as npt

from envpool.trajectory import Trajectory
from trainers.advantages import AdvantageFn
from trainers.train_sample import TrainSample
from verifier.reward import Group

CONTEXT_VERSION = -1
"""`policy_versions` of tokens that no policy sampled."""


def sample_from_trajectory(trajectory: Trajectory, advantage: float, train: bool) -> TrainSample:
    """The sample of a rollout: every sampled token carries `advantage`; `train` False gives an all-zero mask.

    Contexts 5 6 and 7 with completions 8 and 9 (log-probs -0.1 and -0.2), advantage 2:

        token_ids         5  6     8  7     9
        loss_mask         0  0     1  0     1
        rollout_logprobs  0  0  -0.1  0  -0.2
        advantages        0  0     2  0     2

    Raises ValueError when a trained token has no log-prob (NaN: a scripted policy or an endpoint played).
    """
    token_ids, sampled, logprobs, versions = _concatenate(trajectory)
    mask = sampled if train else np.zeros_like(sampled)
    if np.isnan(logprobs[mask == 1]).any():
        raise ValueError(
            f"{trajectory.instance_id} sample {trajectory.sample_index}: tokens without log-probs cannot train a policy "
            f"(played by {trajectory.policy_name})"
        )
    return TrainSample(
        token_ids=token_ids,
        loss_mask=mask,
        rollout_logprobs=np.where(mask == 1, logprobs, 0).astype(np.float32),
        advantages=(mask * np.float32(advantage)).astype(np.float32),
        policy_versions=versions,
        group=trajectory.instance_id,
    )


def sft_sample(trajectory: Trajectory) -> TrainSample:
    """The sample of a demonstration: loss on what the teacher wrote, advantage 1; unknown log-probs become 0."""
    token_ids, mask, logprobs, versions = _concatenate(trajectory)
    return TrainSample(
        token_ids=token_ids,
        loss_mask=mask,
        rollout_logprobs=np.where(mask == 1, np.nan_to_num(logprobs, nan=0.0), 0).astype(np.float32),
        advantages=mask.astype(np.float32),
        policy_versions=versions,
        group=trajectory.instance_id,
    )


def prompt_completion_sample(prompt_ids: npt.ArrayLike, completion_ids: npt.ArrayLike, group: str) -> TrainSample:
    """The SFT sample of one prompt and the completion it should get (SWE-World's reports, plain instruction data)."""
    prompt, completion = np.asarray(prompt_ids, dtype=np.int32), np.asarray(completion_ids, dtype=np.int32)
    mask = np.concatenate([np.zeros(len(prompt), np.int8), np.ones(len(completion), np.int8)])
    return TrainSample(
        token_ids=np.concatenate([prompt, completion]),
        loss_mask=mask,
        rollout_logprobs=np.zeros(len(mask), np.float32),
        advantages=mask.astype(np.float32),
        policy_versions=np.full(len(mask), CONTEXT_VERSION, np.int32),
        group=group,
    )


def flatten_group(group: Group, advantage_fn: AdvantageFn) -> list[TrainSample]:
    """The samples of a group's members, in their order.

    Lost episodes are nowhere. A member whose reward does not train keeps its place with an all-zero mask and advantage, and
    its reward is not in the baseline of the others.
    """
    trained = [member for member in group.members if member.reward.train]
    rewards_G = np.array([member.reward.value for member in trained], dtype=np.float64)
    advantages_G = iter(advantage_fn(rewards_G))
    return [
        sample_from_trajectory(member.trajectory, float(next(advantages_G)) if member.reward.train else 0.0, member.reward.train)
        for member in group.members
    ]


def _concatenate(
    trajectory: Trajectory,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8], npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """token_ids, 1 on sampled tokens, log-probs (0 on context), versions (-1 on context)."""
    ids: list[npt.NDArray] = [np.zeros(0)]
    mask: list[npt.NDArray] = [np.zeros(0)]
    logprobs: list[npt.NDArray] = [np.zeros(0)]
    versions: list[npt.NDArray] = [np.zeros(0)]
    for turn in trajectory.turns:
        shown, wrote = len(turn.context_ids), len(turn.completion_ids)
        ids += [turn.context_ids, turn.completion_ids]
        mask += [np.zeros(shown), np.ones(wrote)]
        logprobs += [np.zeros(shown), turn.rollout_logprobs]
        versions += [np.full(shown, CONTEXT_VERSION), turn.policy_versions]
    return (
        np.concatenate(ids).astype(np.int32),
        np.concatenate(mask).astype(np.int8),
        np.concatenate(logprobs).astype(np.float32),
        np.concatenate(versions).astype(np.int32),
    )
