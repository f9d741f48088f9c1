"""Trajectories to samples, id by id."""

import numpy as np
import pytest

from tests.trainers.training_doubles import make_group, make_trajectory, make_turn
from trainers.advantages import ADVANTAGES
from trainers.sample_building import flatten_group, prompt_completion_sample, samples_from_trajectory, sft_samples

TURNS = [make_turn([5, 6], [8], [-0.1], version=3), make_turn([7], [9], [-0.2], version=4)]
NAN = float("nan")


def test_turns_are_concatenated_as_sampled() -> None:
    (sample,) = samples_from_trajectory(make_trajectory(TURNS), advantage=2.0, train=True)
    assert sample.token_ids.tolist() == [5, 6, 8, 7, 9]
    assert sample.loss_mask.tolist() == [0, 0, 1, 0, 1]
    assert sample.rollout_logprobs.tolist() == pytest.approx([0, 0, -0.1, 0, -0.2])
    assert sample.advantages.tolist() == [0, 0, 2, 0, 2]
    assert sample.policy_versions.tolist() == [-1, -1, 3, -1, 4]
    assert sample.group == "task"
    assert [array.dtype for array in (sample.token_ids, sample.loss_mask, sample.rollout_logprobs, sample.advantages)] == [
        np.int32, np.int8, np.float32, np.float32,
    ]  # fmt: skip


def test_a_trajectory_that_does_not_train_is_all_masked() -> None:
    (sample,) = samples_from_trajectory(make_trajectory([make_turn([5], [8], [NAN])]), advantage=2.0, train=False)
    assert (sample.loss_mask.any(), sample.advantages.any(), sample.rollout_logprobs.any()) == (False, False, False)


def test_rl_refuses_tokens_without_logprobs() -> None:
    with pytest.raises(ValueError, match="task sample 7: tokens without log-probs"):
        samples_from_trajectory(make_trajectory([make_turn([5], [8, 9], [-0.1, NAN])], sample_index=7), 1.0, True)


def test_sft_takes_a_teacher_without_logprobs() -> None:
    (sample,) = sft_samples(make_trajectory([make_turn([5], [8, 9], [NAN, NAN])]))
    assert sample.rollout_logprobs.tolist() == [0, 0, 0]
    assert sample.loss_mask.tolist() == [0, 1, 1]
    assert sample.advantages.tolist() == [0, 1, 1]


def test_prompt_and_completion() -> None:
    sample = prompt_completion_sample([1, 2], [3], "report")
    assert (sample.token_ids.tolist(), sample.loss_mask.tolist(), sample.group) == ([1, 2, 3], [0, 0, 1], "report")


def test_an_episode_without_turns_gives_an_empty_sample() -> None:
    (sample,) = samples_from_trajectory(make_trajectory([]), 1.0, True)
    assert len(sample.token_ids) == 0


def advantages_of(samples: list) -> list[float]:
    return [round(float(sample.advantages.max() + sample.advantages.min()), 4) for sample in samples]


def test_flatten_gives_each_member_its_advantage() -> None:
    samples = flatten_group(make_group([1, 0.5, 0, 0]), ADVANTAGES["leave_one_out"])
    assert advantages_of(samples) == [0.8333, 0.1667, -0.5, -0.5]


def test_lost_members_are_nowhere_and_masked_ones_are_in_no_baseline() -> None:
    """(1, 1, 0, masked): A1 = 1 - 1/2; with the masked one as a 0 in the baseline it would be 1 - 1/3."""
    samples = flatten_group(make_group([1, 1, 0, 0], train=[True, True, True, False], lost=3), ADVANTAGES["leave_one_out"])
    assert advantages_of(samples) == [0.5, 0.5, -1.0, 0.0]
    assert [bool(sample.loss_mask.any()) for sample in samples] == [True, True, True, False]


def test_a_group_whose_members_are_all_masked_or_lost() -> None:
    assert advantages_of(flatten_group(make_group([1, 0], train=[False, False]), ADVANTAGES["leave_one_out"])) == [0.0, 0.0]
    assert flatten_group(make_group([], lost=2), ADVANTAGES["group_mean_std"]) == []
