"""Which samples share a micro-batch: nothing lost, budgets kept, and how full the plan is on trajectory lengths."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.trajectory_lengths import trajectory_lengths
from trainers.batch_planning import plan_fill, plan_micro_batches


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(1, 5), st.integers(20, 100))
@settings(deadline=None)
def test_every_sample_once_and_within_the_budget(lengths: list[int], num_ranks: int, budget: int) -> None:
    plan = plan_micro_batches(lengths, num_ranks, budget)
    assert len(plan) == num_ranks
    assert sorted(index for rank in plan for one in rank for index in one) == list(range(len(lengths)))
    for one in (one for rank in plan for one in rank):
        assert one
        assert sum(lengths[index] for index in one) <= budget or len(one) == 1 or budget < max(lengths)
    assert max(map(len, plan)) - min(map(len, plan)) <= 1
    assert 0 < plan_fill(plan, lengths) <= 1


def test_literal_plans() -> None:
    assert plan_micro_batches([], 2, 10) == [[], []]
    assert plan_micro_batches([30, 2, 3], 1, 10) == [[[0], [2, 1]]]
    assert plan_micro_batches([4, 4, 4, 4], 2, 8) == [[[0, 1]], [[2, 3]]]
    assert plan_fill([[[0, 1]], [[2, 3]]], [4, 4, 4, 4]) == 1.0
    assert plan_fill([[[0], [1]], [[2]]], [4, 4, 2]) == pytest.approx(10 / 16)


@pytest.mark.parametrize("budget", [81_920, 163_840])
@pytest.mark.parametrize("num_groups", [1, 2, 8, 16])
def test_a_batch_of_trajectories_is_at_least_97_percent_full(num_groups: int, budget: int) -> None:
    for seed in range(10):
        lengths = trajectory_lengths(256, np.random.default_rng(seed), 81_920)
        plan = plan_micro_batches(lengths, num_groups, budget)
        assert plan_fill(plan, lengths) >= 0.97
