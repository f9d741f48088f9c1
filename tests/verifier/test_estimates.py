"""Success rates and intervals against hand-computed values."""

import math
from itertools import combinations

import numpy as np
import pytest

from verifier.estimates import bootstrap_interval, mean_pass_at_k, paired_difference, pass_at_k, pass_at_k_per_task


@pytest.mark.parametrize(
    ("n", "c", "k", "value"),
    [(4, 1, 1, 0.25), (4, 1, 2, 0.5), (4, 2, 2, 5 / 6), (4, 0, 4, 0.0), (4, 4, 1, 1.0), (8, 1, 8, 1.0), (10, 3, 5, 1 - 21 / 252)],
)
def test_pass_at_k(n: int, c: int, k: int, value: float) -> None:
    assert pass_at_k(n, c, k) == pytest.approx(value, abs=1e-12)


def test_pass_at_k_is_the_share_of_subsets_with_a_success() -> None:
    for c in range(6):
        outcomes = [index < c for index in range(5)]
        for k in range(1, 6):
            draws = [any(draw) for draw in combinations(outcomes, k)]
            if c <= 5:
                assert pass_at_k(5, min(c, 5), k) == pytest.approx(sum(draws) / len(draws))


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, 1, 5), (4, 1, 0), (0, 0, 1), (4, -1, 1)])
def test_impossible_counts_are_refused(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match="pass@k needs"):
        pass_at_k(n, c, k)


def test_tasks_with_too_few_outcomes_are_left_out() -> None:
    outcomes = [[True, False], [True], [False, False]]
    assert pass_at_k_per_task(outcomes, 2).tolist() == [1.0, 0.0]
    assert mean_pass_at_k(outcomes, 1) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no task has 3"):
        mean_pass_at_k(outcomes, 3)


def test_a_bootstrap_is_seeded_and_surrounds_the_mean() -> None:
    values = [0.0] * 60 + [1.0] * 40
    interval = bootstrap_interval(values, num=2000, seed=1)
    assert interval == bootstrap_interval(values, num=2000, seed=1)
    assert (interval.mean, interval.num_tasks) == (0.4, 100)
    half_width = 1.96 * math.sqrt(0.4 * 0.6 / 100)  # normal approximation
    assert interval.low == pytest.approx(0.4 - half_width, abs=0.02)
    assert interval.high == pytest.approx(0.4 + half_width, abs=0.02)


def test_equal_values_have_an_interval_of_no_width() -> None:
    interval = bootstrap_interval([0.5, 0.5, 0.5], num=10)
    assert (interval.mean, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_a_paired_difference_sees_what_unpaired_noise_would_hide() -> None:
    before = np.arange(50) / 50
    gain = paired_difference(before, before + 0.1, num=200)
    assert gain.mean == pytest.approx(0.1)
    assert gain.excludes_zero
    assert paired_difference(before + 0.1, before, num=200).high < 0
    with pytest.raises(ValueError, match="different lengths"):
        paired_difference([0.0], [0.0, 1.0])
