"""A trajectory whose history was rewritten is several samples, and weighs what it would weigh as one."""

from dataclasses import replace

import numpy as np
import pytest

from envpool.trajectory import Trajectory, Turn
from tests.trainers.training_doubles import make_trajectory, make_turn
from trainers.advantages import ADVANTAGES
from trainers.loss_aggregation import AGGREGATIONS, sample_normaliser, token_weights
from trainers.loss_spec import LossSpec
from trainers.rollout_metrics import rollout_metrics
from trainers.sample_building import flatten_group, samples_from_trajectory, sft_samples
from verifier.reward import Group, Reward, ScoredTrajectory

FIRST = make_turn([1, 2], [3, 4], [-0.1, -0.2])
SUMMARY = replace(make_turn([5], [6, 7], [-0.3, -0.4]), summary=True, train=False)
AFTER = replace(make_turn([1, 2, 6, 7, 5], [8], [-0.5], version=1), restart=True)
LAST = make_turn([9], [3, 8, 8], [-0.6, -0.7, -0.8], version=1)


def cut(*turns: Turn) -> Trajectory:
    return make_trajectory(turns)


def test_each_sequence_that_was_seen_is_a_sample() -> None:
    first, second = samples_from_trajectory(cut(FIRST, SUMMARY, AFTER, LAST), 2.0, True)
    assert first.token_ids.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert first.loss_mask.tolist() == [0, 0, 1, 1, 0, 0, 0]
    assert first.policy_versions.tolist() == [-1, -1, 0, 0, -1, 0, 0]
    assert first.rollout_logprobs.tolist() == pytest.approx([0, 0, -0.1, -0.2, 0, 0, 0])
    assert second.token_ids.tolist() == [1, 2, 6, 7, 5, 8, 9, 3, 8, 8]
    assert second.loss_mask.tolist() == [0, 0, 0, 0, 0, 1, 0, 1, 1, 1]
    assert second.advantages.tolist() == [0, 0, 0, 0, 0, 2, 0, 2, 2, 2]
    assert (first.trajectory_tokens, second.trajectory_tokens) == (6, 6)
    assert [sample.token_ids.tolist() for sample in sft_samples(cut(FIRST, SUMMARY, AFTER, LAST))] == [
        first.token_ids.tolist(), second.token_ids.tolist(),
    ]  # fmt: skip


def test_a_summary_without_logprobs_trains_nothing_and_needs_none() -> None:
    silent = replace(SUMMARY, rollout_logprobs=np.full(2, np.nan, np.float32))
    first, _ = samples_from_trajectory(cut(FIRST, silent, AFTER), 1.0, True)
    assert first.rollout_logprobs.tolist() == pytest.approx([0, 0, -0.1, -0.2, 0, 0, 0])
    with pytest.raises(ValueError, match="without log-probs"):
        samples_from_trajectory(cut(FIRST, replace(silent, train=True), AFTER), 1.0, True)


@pytest.mark.parametrize("aggregation", sorted(AGGREGATIONS))
def test_cutting_changes_no_weight(aggregation: str) -> None:
    spec = LossSpec("clip_higher", aggregation=aggregation, max_response_tokens=100)
    (whole,) = samples_from_trajectory(cut(FIRST, replace(AFTER, restart=False), LAST), 2.0, True)
    parts = samples_from_trajectory(cut(FIRST, AFTER, LAST), 2.0, True)
    assert len(parts) == 2
    together = np.concatenate([token_weights(spec, part)[part.loss_mask == 1] for part in parts])
    assert together.tolist() == pytest.approx(token_weights(spec, whole)[whole.loss_mask == 1].tolist())
    assert sum(sample_normaliser(spec, part) for part in parts) == pytest.approx(sample_normaliser(spec, whole))


@pytest.mark.parametrize("aggregation", sorted(AGGREGATIONS))
def test_a_cut_trajectory_with_stale_tokens_weighs_what_a_whole_one_does(aggregation: str) -> None:
    """Version 0 sampled the first two tokens, and version 1 trains: what is left of either form weighs the same."""
    spec = LossSpec("clip_higher", aggregation=aggregation, max_response_tokens=100)
    (whole,) = samples_from_trajectory(cut(FIRST, replace(AFTER, restart=False), LAST), 2.0, True, oldest_version=1)
    parts = samples_from_trajectory(cut(FIRST, AFTER, LAST), 2.0, True, oldest_version=1)
    assert whole.loss_mask.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1]
    assert whole.rollout_logprobs[:9].tolist() == whole.advantages[:9].tolist() == [0] * 9
    assert [(part.num_trained, part.trajectory_tokens) for part in parts] == [(0, 4), (4, 4)]
    together = np.concatenate([token_weights(spec, part)[part.loss_mask == 1] for part in parts])
    assert together.tolist() == pytest.approx(token_weights(spec, whole)[whole.loss_mask == 1].tolist())
    assert sum(sample_normaliser(spec, part) for part in parts) == pytest.approx(sample_normaliser(spec, whole))


def test_a_cut_trajectory_whose_tokens_are_all_stale_trains_nothing() -> None:
    parts = samples_from_trajectory(cut(FIRST, AFTER, LAST), 2.0, True, oldest_version=2)
    assert [sample_normaliser(LossSpec("clip_higher"), part) for part in parts] == [0.0, 0.0]


def test_a_member_counts_once_in_the_baseline() -> None:
    members = [cut(FIRST, SUMMARY, AFTER, LAST), cut(FIRST), cut(FIRST)]
    scored = [
        ScoredTrajectory(replace(trajectory, sample_index=index), Reward(value, {}, True), False, "")
        for index, (trajectory, value) in enumerate(zip(members, (1.0, 0.0, 0.5), strict=True))
    ]
    samples = flatten_group(Group("task", tuple(scored), ()), ADVANTAGES["leave_one_out"])
    assert [float(sample.advantages[sample.loss_mask == 1][0]) for sample in samples] == [0.75, 0.75, -0.75, 0.0]


def test_a_cut_member_that_does_not_train_is_all_masked() -> None:
    samples = samples_from_trajectory(cut(FIRST, SUMMARY, AFTER, LAST), 2.0, False)
    assert [(bool(sample.loss_mask.any()), bool(sample.advantages.any())) for sample in samples] == [(False, False)] * 2
    spec = LossSpec("clip_higher")
    assert [sample_normaliser(spec, sample) for sample in samples] == [0.0, 0.0]


def test_metrics_count_turns_that_act_and_samples() -> None:
    member = ScoredTrajectory(cut(FIRST, SUMMARY, AFTER, LAST), Reward(1.0, {}, True), True, "")
    metrics = rollout_metrics([Group("task", (member,), ())])
    assert (metrics["rollout/turns"], metrics["rollout/samples"], metrics["rollout/tokens"]) == (3.0, 2.0, 17.0)
    assert metrics["stop/garbled"] == 0.0
