"""Probabilities that mean what they say: a map from a scorer's probability to a calibrated one, fitted on held-out outcomes.

To add a method: a frozen dataclass with `__call__`, a `fit_` function, and a line in CALIBRATIONS.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

EPSILON = 1e-6
NEWTON_STEPS = 100


class Calibration(Protocol):
    """A non-decreasing map of [0, 1] into itself."""

    def __call__(self, probability: float) -> float: ...


@dataclass(frozen=True)
class Identity:
    """No calibration."""

    def __call__(self, probability: float) -> float:
        return probability


@dataclass(frozen=True)
class ScaledLogOdds:
    """Log-odds times `slope`, plus `shift`: temperature scaling (slope 1 / T, shift 0) and Platt's method."""

    slope: float
    shift: float = 0.0

    def __call__(self, probability: float) -> float:
        """
        >>> ScaledLogOdds(0.5)(0.9), ScaledLogOdds(1.0, 0.0)(0.25)
        (0.75, 0.25)
        """
        return round(1.0 / (1.0 + math.exp(-(self.slope * log_odds(probability) + self.shift))), 12)


@dataclass(frozen=True)
class Isotonic:
    """A step function: `values[i]` from `starts[i]` on (below the first start: the first value)."""

    starts: tuple[float, ...]
    values: tuple[float, ...]

    def __call__(self, probability: float) -> float:
        """
        >>> Isotonic((0.2, 0.6), (0.1, 0.8))(0.59), Isotonic((0.2, 0.6), (0.1, 0.8))(0.6)
        (0.1, 0.8)
        """
        index = int(np.searchsorted(self.starts, probability, side="right")) - 1
        return self.values[max(index, 0)]


def log_odds(probability: float) -> float:
    """log(p / (1 - p)), finite at the ends."""
    clipped = min(max(probability, EPSILON), 1.0 - EPSILON)
    return math.log(clipped / (1.0 - clipped))


def fit_temperature(probabilities: Sequence[float], outcomes: Sequence[bool]) -> ScaledLogOdds:
    """The one slope that makes the outcomes most likely (Guo et al. 2017), above 0. Raises ValueError without data."""
    return ScaledLogOdds(_most_likely(probabilities, outcomes, with_shift=False)[0])


def fit_platt(probabilities: Sequence[float], outcomes: Sequence[bool]) -> ScaledLogOdds:
    """Slope and shift that make the outcomes most likely, with Platt's smoothed targets: also another base rate is learnt."""
    return ScaledLogOdds(*_most_likely(probabilities, outcomes, with_shift=True))


def fit_isotonic(probabilities: Sequence[float], outcomes: Sequence[bool]) -> Isotonic:
    """The non-decreasing step function nearest to the outcomes in squares, by pooling adjacent violators.

    Equal probabilities are one point. Raises ValueError without data.

    >>> fit_isotonic([0.1, 0.2, 0.3, 0.9], [False, True, False, True])
    Isotonic(starts=(0.1, 0.2, 0.9), values=(0.0, 0.5, 1.0))
    """
    scores, targets = _as_arrays(probabilities, outcomes)
    order = np.argsort(scores, kind="stable")
    blocks: list[list[float]] = []  # start, sum of outcomes, count
    for score, target in zip(scores[order].tolist(), targets[order].tolist(), strict=True):
        if blocks and blocks[-1][0] == score:
            blocks[-1][1] += target
            blocks[-1][2] += 1
        else:
            blocks.append([score, target, 1.0])
    pooled: list[list[float]] = []
    for block in blocks:
        pooled.append(block)
        while len(pooled) > 1 and pooled[-2][1] * pooled[-1][2] >= pooled[-1][1] * pooled[-2][2]:
            _, total, count = pooled.pop()
            pooled[-1][1] += total
            pooled[-1][2] += count
    return Isotonic(tuple(block[0] for block in pooled), tuple(block[1] / block[2] for block in pooled))


def _as_arrays(
    probabilities: Sequence[float], outcomes: Sequence[bool]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if not len(probabilities) or len(probabilities) != len(outcomes):
        raise ValueError(f"calibration needs one outcome per probability, not {len(outcomes)} for {len(probabilities)}")
    return np.asarray(probabilities, np.float64), np.asarray(outcomes, np.float64)


def _most_likely(probabilities: Sequence[float], outcomes: Sequence[bool], with_shift: bool) -> tuple[float, float]:
    """Newton's method on the log-loss of slope * log-odds + shift, with a little ridge towards (1, 0) so that it converges for
    data that can be told apart perfectly."""
    scores, targets = _as_arrays(probabilities, outcomes)
    if with_shift:
        num_right = targets.sum()
        targets = np.where(targets > 0, (num_right + 1) / (num_right + 2), 1 / (len(targets) - num_right + 2))
    odds = np.array([log_odds(score) for score in scores])
    features = np.stack([odds, np.ones_like(odds)], axis=1) if with_shift else odds[:, None]
    ridge, centre = 1e-3 * np.eye(features.shape[1]), np.array([1.0, 0.0])[: features.shape[1]]
    weights = centre.copy()
    for _ in range(NEWTON_STEPS):
        fitted = 1.0 / (1.0 + np.exp(-np.clip(features @ weights, -30, 30)))
        gradient = features.T @ (fitted - targets) + ridge @ (weights - centre)
        curvature = features.T @ (features * (fitted * (1 - fitted))[:, None]) + ridge
        step = np.linalg.solve(curvature, gradient)
        weights = weights - np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-9:
            break
    return max(float(weights[0]), 1e-3), float(weights[1]) if with_shift else 0.0


def no_calibration(probabilities: Sequence[float], outcomes: Sequence[bool]) -> Identity:
    """The identity, whatever the data."""
    return Identity()


CALIBRATIONS: dict[str, Callable[[Sequence[float], Sequence[bool]], Calibration]] = {
    "none": no_calibration,
    "temperature": fit_temperature,
    "platt": fit_platt,
    "isotonic": fit_isotonic,
}
_CLASSES: dict[str, type[Identity] | type[ScaledLogOdds] | type[Isotonic]] = {
    cls.__name__: cls for cls in (Identity, ScaledLogOdds, Isotonic)
}


def calibration_as_dict(calibration: Calibration) -> dict[str, Any]:
    """Plain values for JSON; `calibration_from_dict` is its inverse."""
    return {"method": type(calibration).__name__, **asdict(calibration)}  # type: ignore[call-overload]


def calibration_from_dict(values: Mapping[str, Any]) -> Calibration:
    """Raises ValueError for what `calibration_as_dict` did not write."""
    settings: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in values.items() if key != "method"
    }
    try:
        return _CLASSES[values["method"]](**settings)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a stored calibration: {dict(values)!r:.100}") from error
