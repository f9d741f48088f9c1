"""The closed form of choosing among K, against a direct simulation and literals."""

import numpy as np
import pytest

from verifier.selection_model import (
    OperatingPoint,
    expected_pass,
    expected_tts,
    mixture_weights,
    operating_point,
    resolved_share,
)


def test_the_closed_form_is_what_a_simulation_finds() -> None:
    rng = np.random.default_rng(0)
    point, rate, k, votes, runs = OperatingPoint(0.7, 0.25), 0.4, 5, 3, 200_000
    resolved = rng.random((runs, k)) < rate
    scores = rng.binomial(votes, np.where(resolved, point.recall, point.false_positive_rate)) + rng.random((runs, k)) / 2
    chosen = resolved[np.arange(runs), scores.argmax(axis=1)].mean()
    assert expected_tts(np.array([rate]), k, point, votes)[0] == pytest.approx(chosen, abs=0.004)


def test_votes_that_agree_are_one_vote() -> None:
    rates, point = np.array([0.3, 0.6]), OperatingPoint(0.7, 0.3)
    np.testing.assert_allclose(expected_tts(rates, 4, point, 3, agreement=1.0), expected_tts(rates, 4, point, 1))
    half = expected_tts(rates, 4, point, 3, agreement=0.5)
    assert np.all((expected_tts(rates, 4, point, 1) < half) & (half < expected_tts(rates, 4, point, 3)))


def test_limits() -> None:
    rates = np.array([0.0, 0.2, 0.7, 1.0])
    for k in (1, 3, 8):
        blind = expected_tts(rates, k, OperatingPoint(0.4, 0.4), 3)
        perfect = expected_tts(rates, k, OperatingPoint(1.0, 0.0), 1)
        some = expected_tts(rates, k, OperatingPoint(0.7, 0.3), 3)
        np.testing.assert_allclose(blind, rates, atol=1e-12)
        np.testing.assert_allclose(perfect, expected_pass(rates, k), atol=1e-12)
        assert np.all((rates - 1e-12 <= some) & (some <= perfect + 1e-12))
    np.testing.assert_allclose(expected_tts(rates, 1, OperatingPoint(0.7, 0.3), 3), rates, atol=1e-12)


def test_an_operating_point_shows_the_numbers_it_was_made_of() -> None:
    point, share = operating_point(0.776, 0.714, 0.716), resolved_share(0.776, 0.714, 0.716)
    said = point.recall * share + point.false_positive_rate * (1 - share)
    assert point.recall * share / said == pytest.approx(0.776)
    assert point.recall * share + (1 - point.false_positive_rate) * (1 - share) == pytest.approx(0.716)
    assert (share, point.false_positive_rate) == (pytest.approx(0.577, abs=0.001), pytest.approx(0.281, abs=0.001))
    with pytest.raises(ValueError, match="no scorer has"):
        operating_point(0.9, 0.9, 0.2)


def test_a_mixture_meets_both_ends() -> None:
    mixed = np.array([0.2, 0.5, 0.9])
    never, sometimes, always = mixture_weights(mixed, 0.6, 0.75, 8)
    assert never + sometimes + always == pytest.approx(1)
    assert always + sometimes * mixed.mean() == pytest.approx(0.6)
    assert always + sometimes * expected_pass(mixed, 8).mean() == pytest.approx(0.75)
    with pytest.raises(ValueError, match="no mixture"):
        mixture_weights(np.array([0.9]), 0.5, 0.99, 8)
