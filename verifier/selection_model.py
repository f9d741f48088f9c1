"""What choosing among K candidates would bring, computed from pass rates and a scorer's operating point: no run needed.

Model: an issue has a pass rate p; its candidates are independent; a vote says "resolved" with probability `recall` for a resolved
and `false_positive_rate` for an unresolved candidate; a candidate's score is the number of its votes that say so; the best score
is chosen, ties at random. Then the K scores are exchangeable, and given that the best score is s the chosen candidate is resolved
with the odds of a candidate whose score is s:

    P(chosen is resolved) = sum over s of  a_s / c_s * (C_s^K - C_{s-1}^K)

with a_s = p Bin(s; n, recall), c_s = a_s + (1 - p) Bin(s; n, false_positive_rate), C_s their sum up to s.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OperatingPoint:
    """How one vote answers."""

    recall: float
    false_positive_rate: float


def operating_point(precision: float, recall: float, accuracy: float) -> OperatingPoint:
    """The point that shows this precision, recall and accuracy; the share of resolved ones it was measured at follows from them.

    Raises ValueError for three numbers that no scorer can have.

    >>> point = operating_point(0.8, 0.8, 0.8)
    >>> round(point.false_positive_rate, 3)
    0.2
    """
    share = (1 - accuracy) / (1 - recall * (2 - 1 / precision))
    if not 0 < share < 1:
        raise ValueError(f"no scorer has precision {precision:g}, recall {recall:g} and accuracy {accuracy:g}")
    rate = recall * share * (1 / precision - 1) / (1 - share)
    if not 0 <= rate <= 1:
        raise ValueError(f"no scorer has precision {precision:g}, recall {recall:g} and accuracy {accuracy:g}")
    return OperatingPoint(recall, rate)


def resolved_share(precision: float, recall: float, accuracy: float) -> float:
    """The share of resolved candidates among those that the three numbers were measured on.

    >>> round(resolved_share(0.8, 0.8, 0.8), 3)
    0.5
    """
    return (1 - accuracy) / (1 - recall * (2 - 1 / precision))


def expected_tts(pass_rates: Floats, k: int, point: OperatingPoint, num_votes: int, agreement: float = 0.0) -> Floats:
    """Expected success of the choice for every issue, shape of `pass_rates`. A share `agreement` of the candidates has votes
    that all say the same; those of the others are independent.

    >>> expected_tts(np.array([0.0, 0.5, 1.0]), 2, OperatingPoint(1.0, 0.0), 1).tolist()
    [0.0, 0.75, 1.0]
    >>> expected_tts(np.array([0.3]), 8, OperatingPoint(0.5, 0.5), 3).round(12).tolist()
    [0.3]
    """
    votes = np.arange(num_votes + 1)
    right = pass_rates[:, None] * _scores(votes, num_votes, point.recall, agreement)
    both = right + (1 - pass_rates[:, None]) * _scores(votes, num_votes, point.false_positive_rate, agreement)
    up_to = np.clip(np.cumsum(both, axis=1), 0.0, 1.0)
    best = up_to**k - np.concatenate([np.zeros((len(pass_rates), 1)), up_to[:, :-1]], axis=1) ** k
    share = np.divide(right, both, out=np.zeros_like(right), where=both > 0)
    chosen: Floats = (share * best).sum(axis=1)
    return chosen


def expected_pass(pass_rates: Floats, k: int) -> Floats:
    """Probability that at least one of k candidates is resolved.

    >>> expected_pass(np.array([0.5]), 2).tolist()
    [0.75]
    """
    return 1.0 - (1.0 - pass_rates) ** k


def mixture_weights(mixed: Floats, pass_1: float, pass_k: float, k: int) -> tuple[float, float, float]:
    """Shares of never solved, sometimes solved (pass rates as in `mixed`) and always solved issues that give this Pass@1 and
    Pass@k. Raises ValueError when no shares do.

    >>> [round(share, 6) for share in mixture_weights(np.array([0.5]), 0.5, 0.625, 2)]
    [0.25, 0.5, 0.25]
    """
    one, many = float(mixed.mean()), float(expected_pass(mixed, k).mean())
    sometimes = (pass_k - pass_1) / (many - one)
    always = pass_1 - sometimes * one
    never = 1.0 - sometimes - always
    if min(sometimes, always, never) < -1e-9:
        raise ValueError(f"no mixture of these issues has Pass@1 {pass_1:g} and Pass@{k} {pass_k:g}")
    return max(never, 0.0), sometimes, max(always, 0.0)


def root_mean_square(differences: Sequence[float]) -> float:
    """
    >>> root_mean_square([3.0, -4.0])
    3.5355339059327378
    """
    return math.sqrt(sum(value * value for value in differences) / len(differences))


def _scores(successes: npt.NDArray[np.int64], trials: int, rate: float, agreement: float) -> Floats:
    """Distribution of the number of votes for "resolved"."""
    same = np.zeros(len(successes))
    same[0], same[-1] = 1.0 - rate, rate
    return (1.0 - agreement) * _binomial(successes, trials, rate) + agreement * same


def _binomial(successes: npt.NDArray[np.int64], trials: int, rate: float) -> Floats:
    counts = np.array([math.comb(trials, int(number)) for number in successes], np.float64)
    probabilities: Floats = counts * rate**successes * (1.0 - rate) ** (trials - successes)
    return probabilities
