"""From trajectories to samples: turns are concatenated as they were sampled, nothing is rendered or tokenised again."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from envpool.trajectory import Trajectory, Turn
from trainers.advantages import AdvantageFn
from trainers.train_sample import TrainSample
from verifier.reward import Group

CONTEXT_VERSION = -1
"""`policy_versions` of tokens that no policy sampled."""


def samples_from_trajectory(
    trajectory: Trajectory, advantage: float, train: bool, oldest_version: int = CONTEXT_VERSION
) -> list[TrainSample]:
    """The samples of a rollout, one per sequence that the model saw (one, unless its history was rewritten): every sampled token
    carries `advantage` and is trained once; `train` False gives all-zero masks. Tokens that policies before `oldest_version`
    sampled are masked too and stay as context.

    Contexts 5 6 and 7 with completions 8 and 9 (log-probs -0.1 and -0.2), advantage 2:

        token_ids         5  6     8  7     9
        loss_mask         0  0     1  0     1
        rollout_logprobs  0  0  -0.1  0  -0.2
        advantages        0  0     2  0     2

    What a later sequence shows again of an earlier one is context there. Raises ValueError when a trained token has no
    log-prob (NaN: a scripted policy or an endpoint played).
    """
    parts = []
    for turns in trajectory.samples:
        token_ids, sampled, logprobs, versions = _concatenate(turns)
        if train and np.isnan(logprobs[sampled == 1]).any():
            raise ValueError(
                f"{trajectory.instance_id} sample {trajectory.sample_index}: tokens without log-probs cannot train a policy "
                f"(played by {trajectory.policy_name})"
            )
        mask = np.where(versions >= oldest_version, sampled, 0).astype(np.int8) if train else np.zeros_like(sampled)
        parts.append(_sample(trajectory, token_ids, mask, logprobs, mask * np.float32(advantage), versions))
    return _of_one_trajectory(parts)


def sft_samples(trajectory: Trajectory) -> list[TrainSample]:
    """The samples of a demonstration: loss on what the teacher wrote, advantage 1; unknown log-probs become 0."""
    parts = []
    for turns in trajectory.samples:
        token_ids, mask, logprobs, versions = _concatenate(turns)
        parts.append(_sample(trajectory, token_ids, mask, np.nan_to_num(logprobs, nan=0.0), mask, versions))
    return _of_one_trajectory(parts)


def _sample(
    trajectory: Trajectory,
    token_ids: npt.NDArray[np.int32],
    mask: npt.NDArray[np.int8],
    logprobs: npt.NDArray[np.float32],
    advantages: npt.NDArray,
    versions: npt.NDArray[np.int32],
) -> TrainSample:
    return TrainSample(
        token_ids=token_ids,
        loss_mask=mask,
        rollout_logprobs=np.where(mask == 1, logprobs, 0).astype(np.float32),
        advantages=advantages.astype(np.float32),
        policy_versions=versions,
        group=trajectory.instance_id,
    )


def _of_one_trajectory(parts: list[TrainSample]) -> list[TrainSample]:
    """The parts, each told how many tokens of the trajectory are trained; a whole trajectory needs no telling."""
    if len(parts) == 1:
        return parts
    total = sum(part.num_trained for part in parts)
    return [replace(part, trajectory_tokens=total) for part in parts]


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


def flatten_group(group: Group, advantage_fn: AdvantageFn, oldest_version: int = CONTEXT_VERSION) -> list[TrainSample]:
    """The samples of a group's members, in their order, without loss on tokens of policies before `oldest_version`.

    Lost episodes are nowhere. A member whose reward does not train keeps its place with all-zero masks and advantages, and
    its reward is not in the baseline of the others. A member counts once in the baseline, however many samples it has.
    """
    trained = [member for member in group.members if member.reward.train]
    rewards_G = np.array([member.reward.value for member in trained], dtype=np.float64)
    advantages_G = iter(advantage_fn(rewards_G))
    samples: list[TrainSample] = []
    for member in group.members:
        advantage = float(next(advantages_G)) if member.reward.train else 0.0
        samples += samples_from_trajectory(member.trajectory, advantage, member.reward.train, oldest_version)
    return samples


def _concatenate(
    turns: Sequence[Turn],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int8], npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """token_ids, 1 on sampled tokens that train, log-probs (0 on context), versions (-1 on context)."""
    ids: list[npt.NDArray] = [np.zeros(0)]
    mask: list[npt.NDArray] = [np.zeros(0)]
    logprobs: list[npt.NDArray] = [np.zeros(0)]
    versions: list[npt.NDArray] = [np.zeros(0)]
    for turn in turns:
        shown, wrote = len(turn.context_ids), len(turn.completion_ids)
        ids += [turn.context_ids, turn.completion_ids]
        mask += [np.zeros(shown), np.full(wrote, turn.train)]
        logprobs += [np.zeros(shown), turn.rollout_logprobs]
        versions += [np.full(shown, CONTEXT_VERSION), turn.policy_versions]
    return (
        np.concatenate(ids).astype(np.int32),
        np.concatenate(mask).astype(np.int8),
        np.concatenate(logprobs).astype(np.float32),
        np.concatenate(versions).astype(np.int32),
    )
