"""Samples, trajectories and groups made up from literals, and the gradient of a loss without DeepSpeed."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from envpool.patch import Patch
from envpool.trajectory import StopReason, Trajectory, Turn
from trainers.loss_spec import LossSpec
from trainers.losses import LOSSES
from trainers.packing import pack
from trainers.pretrained_lm import PretrainedLM
from trainers.token_rows import token_rows
from trainers.train_sample import TrainSample
from verifier.reward import Group, LostEpisode, Reward, ScoredTrajectory


def make_sample(rng: np.random.Generator, length: int, vocab_size: int = 320, advantage: float | None = None) -> TrainSample:
    """Random tokens; about half of those after the first quarter are trained."""
    mask = (rng.random(length) < 0.5).astype(np.int8)
    mask[: max(length // 4, 1)] = 0
    mask[-1] = 1
    value = np.float32(rng.normal() if advantage is None else advantage)
    return TrainSample(
        token_ids=rng.integers(0, vocab_size, length).astype(np.int32),
        loss_mask=mask,
        rollout_logprobs=(mask * -(5 + rng.random(length))).astype(np.float32),
        advantages=(mask * value).astype(np.float32),
        policy_versions=np.where(mask == 1, 0, -1).astype(np.int32),
        group="task",
    )


def make_turn(context: list[int], completion: list[int], logprobs: list[float], version: int = 0) -> Turn:
    return Turn(
        context_ids=np.array(context, np.int32),
        completion_ids=np.array(completion, np.int32),
        rollout_logprobs=np.array(logprobs, np.float32),
        policy_versions=np.full(len(completion), version, np.int32),
        text="",
        action="",
        observation="",
        generate_s=0.0,
        tool_s=0.0,
    )


def make_trajectory(
    turns: Sequence[Turn], sample_index: int = 0, stop: StopReason = StopReason.SUBMITTED, diff: str = ""
) -> Trajectory:
    return Trajectory("task", sample_index, "policy", "prompt", tuple(turns), Patch(diff), stop, 1.0)


def make_group(rewards: Sequence[float], train: Sequence[bool] | None = None, lost: int = 0, task: str = "task") -> Group:
    """One turn (context 1 2, completion 3 4) per member; a reward of 1 or more counts as resolved."""
    members = [
        ScoredTrajectory(
            make_trajectory([make_turn([1, 2], [3, 4], [-0.1, -0.2])], index),
            Reward(value, {}, train[index] if train else True),
            value >= 1,
            "",
        )
        for index, value in enumerate(rewards)
    ]
    return Group(task, tuple(members), tuple(LostEpisode(len(members) + index, "sandbox died") for index in range(lost)))


def with_version(group: Group, version: int) -> Group:
    """The group as if policy `version` had sampled every token."""

    def sampled(turn: Turn) -> Turn:
        return replace(turn, policy_versions=np.full(len(turn.completion_ids), version, np.int32))

    members = [
        replace(member, trajectory=replace(member.trajectory, turns=tuple(map(sampled, member.trajectory.turns))))
        for member in group.members
    ]
    return replace(group, members=tuple(members))


def loss_and_gradient(
    model: PretrainedLM, samples: Sequence[TrainSample], spec: LossSpec, tokens_per_micro_batch: int
) -> tuple[float, dict[str, torch.Tensor]]:
    """The step's loss and the gradient of every parameter, accumulated over micro-batches with one normaliser."""
    loss = LOSSES[spec.name](spec)
    normaliser = sum(loss.normaliser(sample) for sample in samples)
    model.zero_grad(set_to_none=True)
    total = 0.0
    for batch in pack(samples, tokens_per_micro_batch, loss.weights):
        rows = token_rows(batch.predicted, batch.lengths)
        token_losses = loss.token_losses(model(batch), batch.rollout_logprobs, batch.advantages, rows)
        value = (token_losses * batch.weights).sum() / normaliser
        value.backward()
        total += float(value.detach())
    return total, {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Largest absolute difference over the largest absolute value of `first`; both have the same names."""
    assert first.keys() == second.keys()
    scale = max(float(value.abs().max()) for value in first.values())
    return max(float((first[name] - second[name]).abs().max()) for name in first) / scale
