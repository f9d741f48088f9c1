"""Advantages against the literals of SWE-Master's objective (peers' numbers: test_golden_check)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.advantages import ADVANTAGES
from trainers.advantages.leave_one_out import leave_one_out_baseline

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
@pytest.mark.parametrize("value", [0.1, 0.7, 1 / 3])
def test_equal_rewards_give_exactly_zero(name: str, value: float) -> None:
    """Not almost zero: a token of advantage 0 is not computed at all."""
    assert ADVANTAGES[name](np.full(7, value)).tolist() == [0.0] * 7


def test_a_crashed_member_is_in_nobodys_baseline() -> None:
    """(1, 1, 0, crashed): kept with reward 0 the first has 1 - 1/3; left out, 1 - 1/2."""
    kept = ADVANTAGES["leave_one_out"](np.array([1.0, 1.0, 0.0, 0.0]))
    left_out = ADVANTAGES["leave_one_out"](np.array([1.0, 1.0, 0.0]))
    assert (round(kept[0], 4), left_out[0]) == (0.6667, 0.5)


@settings(deadline=None)
@given(rewards=rewards_lists, data=st.data())
def test_the_baseline_of_valid_members_is_that_of_the_group_without_the_others(rewards: list[float], data: st.DataObject) -> None:
    valid = np.array(data.draw(st.lists(st.booleans(), min_size=len(rewards), max_size=len(rewards))))
    rewards_G = np.array(rewards)
    expected = ADVANTAGES["leave_one_out"](rewards_G[valid])
    assert np.allclose((rewards_G - leave_one_out_baseline(rewards_G, valid))[valid], expected, atol=1e-9)
