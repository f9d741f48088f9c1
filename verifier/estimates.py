"""Success rates with their uncertainty: pass@k, bootstrap intervals over tasks, paired differences. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean over tasks and its 95 % bootstrap interval; `excludes_zero` is the test of a difference."""

    mean: float
    low: float
    high: float
    num_tasks: int

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that k of n attempts, drawn without replacement, hold one of the c that succeeded.

    Unbiased; the product form of Chen et al. 2021 (arXiv 2107.03374): 1 - prod over i in n-c+1..n of (1 - k/i).

    >>> pass_at_k(4, 1, 2)
    0.5
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, not n={n} c={c} k={k}")
    if n - c < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1)))


def pass_at_k_per_task(outcomes_per_task: Sequence[Sequence[bool]], k: int) -> Floats:
    """pass@k of every task with at least k outcomes, shape (tasks,); tasks with fewer (lost episodes) are left out."""
    enough = [outcomes for outcomes in outcomes_per_task if len(outcomes) >= k]
    return np.array([pass_at_k(len(outcomes), sum(outcomes), k) for outcomes in enough], dtype=np.float64)


def mean_pass_at_k(outcomes_per_task: Sequence[Sequence[bool]], k: int) -> float:
    """Mean over the tasks with at least k outcomes. Raises ValueError when there is none.

    >>> mean_pass_at_k([[True, False], [False, False]], 1)
    0.25
    """
    values = pass_at_k_per_task(outcomes_per_task, k)
    if not len(values):
        raise ValueError(f"no task has {k} outcomes")
    return float(values.mean())


def bootstrap_interval(values_per_task: Sequence[float] | Floats, num: int = 2000, seed: int = 0) -> Interval:
    """Mean and percentile interval (2.5 % to 97.5 %) over `num` resamples of the tasks with replacement.

    The task is the unit: attempts at one task are not independent. Raises ValueError without tasks.
    """
    values = np.asarray(values_per_task, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError("a bootstrap needs one value per task and at least one task")
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(num)])
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high), len(values))


def paired_difference(
    before: Sequence[float] | Floats, after: Sequence[float] | Floats, num: int = 2000, seed: int = 0
) -> Interval:
    """Mean of `after - before` over the same tasks in the same order, with its interval (tasks resampled in pairs).

    >>> paired_difference([0.0, 0.5], [0.5, 1.0]).mean
    0.5
    """
    first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"paired values of different lengths: {first.shape} and {second.shape}")
    return bootstrap_interval(second - first, num, seed)
