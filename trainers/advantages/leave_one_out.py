"""Leave-one-out baseline (RLOO), the estimator of SWE-Master and DeepSWE."""

import numpy as np
import numpy.typing as npt


def leave_one_out(rewards_G: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Reward minus the mean reward of the other members; no division by the standard deviation.

    A group of one has no baseline: its advantage is 0 (not its reward), so a lone member teaches nothing.

    >>> leave_one_out(np.array([1.0, 0.5, 0.0, 0.0])).round(4).tolist()
    [0.8333, 0.1667, -0.5, -0.5]
    """
    size = len(rewards_G)
    if size <= 1:
        return np.zeros(size)
    return (rewards_G - rewards_G.mean()) * (size / (size - 1))
