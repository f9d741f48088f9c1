"""How good a scorer's probabilities are: ranking (AUC), calibration (ECE, Brier), and the decision at one half.

A judged patch is (probability, whether it really resolves); judgements come per task, and intervals resample tasks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Judged = tuple[float, bool]
Metric = Callable[[Floats, Floats], float]
NUM_BINS = 10


def auc(probabilities: Floats, outcomes: Floats) -> float:
    """Chance that a resolved patch has a higher probability than an unresolved one, ties counting half; NaN without both.

    >>> auc(np.array([0.9, 0.4, 0.4, 0.1]), np.array([1.0, 1.0, 0.0, 0.0]))
    0.875
    """
    right, wrong = probabilities[outcomes > 0], np.sort(probabilities[outcomes == 0])
    if not len(right) or not len(wrong):
        return math.nan
    below = np.searchsorted(wrong, right, side="left")
    ties = np.searchsorted(wrong, right, side="right") - below
    return float((below + 0.5 * ties).sum() / (len(right) * len(wrong)))


def expected_calibration_error(probabilities: Floats, outcomes: Floats, num_bins: int = NUM_BINS) -> float:
    """Mean over patches of |mean probability - share resolved| in `num_bins` equal bins of [0, 1] (Naeini et al. 2015).

    >>> round(expected_calibration_error(np.array([0.95, 0.95, 0.15]), np.array([1.0, 0.0, 0.0])), 4)
    0.35
    """
    bins = _bins(probabilities, num_bins)
    gaps = [abs((probabilities[bins == index] - outcomes[bins == index]).sum()) for index in range(num_bins)]
    return float(sum(gaps) / len(probabilities))


def brier(probabilities: Floats, outcomes: Floats) -> float:
    """Mean squared distance of probability and outcome."""
    return float(((probabilities - outcomes) ** 2).mean())


def accuracy(probabilities: Floats, outcomes: Floats) -> float:
    """Share of right decisions: "resolved" above one half."""
    return float(((probabilities > 0.5) == (outcomes > 0)).mean())


def precision(probabilities: Floats, outcomes: Floats) -> float:
    """Share of resolved ones among those called resolved; NaN when none is."""
    said = probabilities > 0.5
    return float(outcomes[said].mean()) if said.any() else math.nan


def recall(probabilities: Floats, outcomes: Floats) -> float:
    """Share of those called resolved among the resolved ones; NaN without resolved ones."""
    right = outcomes > 0
    return float((probabilities[right] > 0.5).mean()) if right.any() else math.nan


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "precision": precision,
    "recall": recall,
    "auc": auc,
    "ece": expected_calibration_error,
    "brier": brier,
}


@dataclass(frozen=True)
class ReliabilityBin:
    """Patches whose probability lies in [low, low + width): how many, their mean probability, the share that is resolved."""

    low: float
    count: int
    mean_probability: float
    resolved_share: float


def reliability(judged: Sequence[Judged], num_bins: int = NUM_BINS) -> tuple[ReliabilityBin, ...]:
    """The bins that hold a patch, in order: the points of a reliability diagram.

    >>> reliability([(0.95, True), (0.91, False), (0.05, False)])[1]
    ReliabilityBin(low=0.9, count=2, mean_probability=0.93, resolved_share=0.5)
    """
    if not judged:
        return ()
    probabilities, outcomes = _columns(judged)
    bins = _bins(probabilities, num_bins)
    return tuple(
        ReliabilityBin(
            index / num_bins,
            int((bins == index).sum()),
            round(float(probabilities[bins == index].mean()), 12),
            float(outcomes[bins == index].mean()),
        )
        for index in range(num_bins)
        if (bins == index).any()
    )


def scorer_quality(tasks: Sequence[Sequence[Judged]], num: int = 1000, seed: int = 0) -> dict[str, list[float]]:
    """`{metric: [value, low, high]}` over all judged patches; the 95 % interval is of resampled tasks. Empty without patches."""
    columns = [_columns(judged) for judged in tasks if judged]
    if not columns:
        return {}
    rng = np.random.default_rng(seed)
    everything = _stacked(columns, np.arange(len(columns)))
    draws = [_stacked(columns, rng.integers(0, len(columns), len(columns))) for _ in range(num)]
    table = {}
    for name, metric in METRICS.items():
        values = [value for value in (metric(*draw) for draw in draws) if not math.isnan(value)]
        low, high = np.quantile(values, [0.025, 0.975]) if values else (math.nan, math.nan)
        table[name] = [metric(*everything), float(low), float(high)]
    return table


def _columns(judged: Sequence[Judged]) -> tuple[Floats, Floats]:
    return np.array([one[0] for one in judged], np.float64), np.array([one[1] for one in judged], np.float64)


def _stacked(columns: Sequence[tuple[Floats, Floats]], rows: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    return np.concatenate([columns[row][0] for row in rows]), np.concatenate([columns[row][1] for row in rows])


def _bins(probabilities: Floats, num_bins: int) -> npt.NDArray[np.int64]:
    """Index of each probability's bin; 1.0 belongs to the last."""
    return np.minimum((probabilities * num_bins).astype(np.int64), num_bins - 1)
