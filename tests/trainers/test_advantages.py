"""Advantages against the literals of SWE-Master's objective and of peers' own functions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.golden_vectors import golden_cases
from trainers.advantages import ADVANTAGES

rewards_lists = st.lists(st.floats(-2, 2), min_size=2, max_size=12)


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1, 0.5, 0, 0], [0.8333, 0.1667, -0.5, -0.5]),
        ([1, 1, 1, 1], [0, 0, 0, 0]),
        ([0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0]),
        ([1, 1, 0], [0.5, 0.5, -1]),
        ([0.7], [0]),
        ([], []),
    ],
)
def test_leave_one_out_literals(rewards: list[float], expected: list[float]) -> None:
    assert ADVANTAGES["leave_one_out"](np.array(rewards, dtype=float)).round(4).tolist() == expected


def test_group_mean_literals() -> None:
    assert ADVANTAGES["group_mean"](np.array([1.0, 0.0, 0.0, 1.0])).tolist() == [0.5, -0.5, -0.5, 0.5]
    assert ADVANTAGES["group_mean_std"](np.array([1.0, 0.0])).round(4).tolist() == [0.7071, -0.7071]
    assert ADVANTAGES["group_mean_std"](np.array([0.3])).tolist() == [0.0]
    assert ADVANTAGES["group_mean_std"](np.array([1.0, 1.0])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
@settings(deadline=None)
@given(rewards=rewards_lists, seed=st.integers(0, 99))
def test_permuting_a_group_permutes_its_advantages(name: str, rewards: list[float], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rewards))
    direct = ADVANTAGES[name](np.array(rewards))
    assert np.allclose(ADVANTAGES[name](np.array(rewards)[order]), direct[order], atol=1e-6)


@settings(deadline=None)
@given(rewards=rewards_lists, shift=st.floats(-5, 5))
def test_leave_one_out_ignores_a_constant_and_sums_to_zero(rewards: list[float], shift: float) -> None:
    direct = ADVANTAGES["leave_one_out"](np.array(rewards))
    assert abs(direct.sum()) < 1e-9
    assert np.allclose(ADVANTAGES["leave_one_out"](np.array(rewards) + shift), direct, atol=1e-9)


@pytest.mark.parametrize("name", sorted(ADVANTAGES))
def test_golden_advantages(name: str) -> None:
    for case in golden_cases():
        groups = np.array(case["rewards"]).reshape(-1, case["group_size"])
        ours = np.concatenate([ADVANTAGES[name](rewards_G) for rewards_G in groups])
        assert np.allclose(ours, case["advantages"][name], atol=1e-6)


def test_golden_baseline_of_valid_members_only() -> None:
    """A member that is left out is in nobody's baseline: advantage = reward - baseline over the valid others."""
    checked = 0
    for case in golden_cases():
        size = case["group_size"]
        rewards, valid = np.array(case["rewards"]).reshape(-1, size), np.array(case["valid"]).reshape(-1, size) == 1
        baseline = np.array(case["advantages"]["leave_one_out_baseline_valid_only"]).reshape(-1, size)
        for row in range(len(rewards)):
            if valid[row].sum() < 2:
                continue  # a group of one: peers take baseline 0, we take advantage 0
            kept = rewards[row][valid[row]]
            assert np.allclose(ADVANTAGES["leave_one_out"](kept), kept - baseline[row][valid[row]], atol=1e-6)
            checked += 1
    assert checked > 10
