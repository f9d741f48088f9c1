"""Durations as counts in bins of constant relative width: bounded, summed over workers, subtracted between two moments."""

import math
from collections.abc import Sequence

SHORTEST_S = 0.001
BINS_PER_OCTAVE = 8
NUM_BINS = 192
"""From 1 ms to 2**(191/8) ms, over four hours, in steps of 9 %: a quantile is off by at most half of that."""


class SecondsHistogram:
    """Counts since the beginning."""

    def __init__(self) -> None:
        self.counts = [0] * NUM_BINS

    def add(self, seconds: float) -> None:
        """Count one duration; what is outside the range counts in the first or last bin."""
        octaves = math.log2(max(seconds, SHORTEST_S) / SHORTEST_S)
        self.counts[min(int(octaves * BINS_PER_OCTAVE), NUM_BINS - 1)] += 1


def quantile_s(counts: Sequence[int], share: float) -> float | None:
    """The duration that `share` of the counted ones do not exceed, as the middle of its bin; None without any.

    >>> histogram = SecondsHistogram()
    >>> for seconds in (0.1, 0.1, 0.1, 8.0):
    ...     histogram.add(seconds)
    >>> round(quantile_s(histogram.counts, 0.5), 2), round(quantile_s(histogram.counts, 0.95), 1)
    (0.1, 7.8)
    """
    wanted, seen = share * sum(counts), 0
    if not any(counts):
        return None
    for index, count in enumerate(counts):
        seen += count
        if count and seen >= wanted:
            return SHORTEST_S * math.exp2((index + 0.5) / BINS_PER_OCTAVE)
    raise AssertionError("unreachable: the last bin reaches every share")
