"""Group-relative advantages (GRPO), with the standard deviation as in DeepSeekMath or without it (Dr. GRPO)."""

import numpy as np
import numpy.typing as npt

STD_EPSILON = 1e-6


def group_mean(rewards_G: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Reward minus the mean of the whole group; equal rewards (and a group of one) give exactly 0.

    >>> group_mean(np.array([1.0, 0.0])).tolist()
    [0.5, -0.5]
    """
    if len(rewards_G) <= 1 or np.ptp(rewards_G) == 0:
        return np.zeros(len(rewards_G))
    return rewards_G - rewards_G.mean()


def group_mean_std(rewards_G: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """`group_mean` divided by the sample standard deviation (n - 1) plus 1e-6; a group of one gives 0."""
    if len(rewards_G) <= 1:
        return np.zeros(len(rewards_G))
    return group_mean(rewards_G) / (rewards_G.std(ddof=1) + STD_EPSILON)
