"""Calibration maps and the numbers that say whether one is needed, against literals and invariances."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.calibration import (
    CALIBRATIONS,
    Identity,
    Isotonic,
    ScaledLogOdds,
    calibration_as_dict,
    calibration_from_dict,
    fit_isotonic,
    fit_platt,
    fit_temperature,
)
from verifier.scorer_metrics import (
    METRICS,
    accuracy,
    auc,
    brier,
    expected_calibration_error,
    precision,
    recall,
    reliability,
    scorer_quality,
)

DATA = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40)


def overconfident(num: int, seed: int) -> tuple[list[float], list[bool]]:
    """A scorer whose log-odds are three times too large."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 1, num)
    outcomes = rng.random(num) < 1 / (1 + np.exp(-odds))
    return (1 / (1 + np.exp(-3 * odds))).tolist(), outcomes.tolist()


def test_pooling_adjacent_violators_by_hand() -> None:
    fitted = fit_isotonic([0.1, 0.2, 0.3, 0.4, 0.5, 0.5], [False, True, False, False, True, True])
    assert fitted == Isotonic((0.1, 0.2, 0.5), (0.0, pytest.approx(1 / 3), 1.0))
    assert [fitted(value) for value in (0.0, 0.1, 0.25, 0.49, 0.5, 1.0)] == [0.0, 0.0, *[pytest.approx(1 / 3)] * 2, 1.0, 1.0]
    assert fit_isotonic([0.9, 0.1], [False, True]) == Isotonic((0.1,), (0.5,))


@given(DATA)
def test_isotonic_is_monotone_and_keeps_the_mean(data: list[tuple[float, bool]]) -> None:
    probabilities, outcomes = [one[0] for one in data], [one[1] for one in data]
    fitted = fit_isotonic(probabilities, outcomes)
    assert list(fitted.values) == sorted(fitted.values)
    assert np.mean([fitted(value) for value in probabilities]) == pytest.approx(np.mean(outcomes))


@given(DATA, st.sampled_from(sorted(CALIBRATIONS)))
def test_every_calibration_stays_in_the_unit_interval_and_keeps_the_order(data: list[tuple[float, bool]], method: str) -> None:
    fitted = CALIBRATIONS[method]([one[0] for one in data], [one[1] for one in data])
    values = [fitted(value) for value in np.linspace(0, 1, 21)]
    assert all(0 <= value <= 1 for value in values)
    assert values == sorted(values)
    assert calibration_from_dict(calibration_as_dict(fitted)) == fitted


def test_temperature_undoes_overconfidence() -> None:
    probabilities, outcomes = overconfident(4_000, 0)
    fitted = fit_temperature(probabilities, outcomes)
    assert fitted.slope == pytest.approx(1 / 3, abs=0.03)
    fresh, truth = overconfident(4_000, 1)
    before = expected_calibration_error(np.array(fresh), np.array(truth, float))
    after = expected_calibration_error(np.array([fitted(value) for value in fresh]), np.array(truth, float))
    assert before > 0.1 > 0.03 > after


def test_platt_learns_another_base_rate() -> None:
    rng = np.random.default_rng(0)
    odds = rng.normal(0, 1, 4_000)
    outcomes = rng.random(4_000) < 1 / (1 + np.exp(-(odds - 1)))
    fitted = fit_platt((1 / (1 + np.exp(-odds))).tolist(), outcomes.tolist())
    assert (fitted.slope, fitted.shift) == (pytest.approx(1, abs=0.1), pytest.approx(-1, abs=0.1))
    assert ScaledLogOdds(1.0, -1.0)(0.5) == pytest.approx(1 / (1 + math.e))


def test_data_that_can_be_told_apart_does_not_break_a_fit() -> None:
    for fit in (fit_temperature, fit_platt):
        fitted = fit([0.0, 0.1, 0.9, 1.0], [False, False, True, True])
        assert fitted(0.0) < 0.25 < 0.75 < fitted(1.0)


def test_calibration_needs_data() -> None:
    with pytest.raises(ValueError, match="one outcome per probability"):
        fit_isotonic([], [])
    with pytest.raises(ValueError, match="not a stored calibration"):
        calibration_from_dict({"method": "guess"})
    assert Identity()(0.3) == 0.3


def test_metrics_by_hand() -> None:
    probabilities, outcomes = np.array([0.9, 0.8, 0.6, 0.3, 0.1]), np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    assert accuracy(probabilities, outcomes) == 0.6
    assert precision(probabilities, outcomes) == pytest.approx(2 / 3)
    assert recall(probabilities, outcomes) == pytest.approx(2 / 3)
    assert auc(probabilities, outcomes) == pytest.approx(4 / 6)
    assert brier(probabilities, outcomes) == pytest.approx((0.01 + 0.64 + 0.16 + 0.49 + 0.01) / 5)
    assert expected_calibration_error(probabilities, outcomes) == pytest.approx((0.1 + 0.8 + 0.4 + 0.7 + 0.1) / 5)
    assert math.isnan(auc(probabilities, np.ones(5)))
    assert math.isnan(precision(np.zeros(2), np.ones(2)))
    assert math.isnan(recall(np.ones(2), np.zeros(2)))


def test_a_diagrams_points_hold_all_patches_once() -> None:
    bins = reliability([(0.0, False), (0.05, True), (1.0, True), (0.95, False), (0.5, True)])
    assert [(one.low, one.count) for one in bins] == [(0.0, 2), (0.5, 1), (0.9, 2)]
    assert reliability([]) == ()


@given(DATA)
def test_ece_is_the_weighted_gap_of_the_diagram(data: list[tuple[float, bool]]) -> None:
    bins = reliability(data)
    gap = sum(one.count * abs(one.mean_probability - one.resolved_share) for one in bins) / len(data)
    columns = np.array([one[0] for one in data]), np.array([one[1] for one in data], float)
    assert expected_calibration_error(*columns) == pytest.approx(gap, abs=1e-9)


def test_intervals_resample_tasks() -> None:
    tasks = [[(0.9, True)] * 4, [(0.2, False)] * 4, [(0.8, False)] * 4, []]
    table = scorer_quality(tasks, num=400)
    assert table.keys() == METRICS.keys()
    value, low, high = table["accuracy"]
    assert (value, low, high) == (pytest.approx(2 / 3), 0.0, 1.0)
    assert scorer_quality([]) == {}
