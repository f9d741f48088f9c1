"""Leave-one-out baseline (RLOO), the estimator of SWE-Master and DeepSWE."""

import numpy as np
import numpy.typing as npt


def leave_one_out(rewards_G: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Reward minus the mean reward of the other members; no division by the standard deviation.

    A group of one has no baseline: its advantage is 0 (not its reward), so a lone member teaches nothing. Equal rewards give
    exactly 0, whatever their sum rounds to.

    >>> leave_one_out(np.array([1.0, 0.5, 0.0, 0.0])).round(4).tolist()
    [0.8333, 0.1667, -0.5, -0.5]
    """
    size = len(rewards_G)
    if size <= 1 or np.ptp(rewards_G) == 0:
        return np.zeros(size)
    return (rewards_G - rewards_G.mean()) * (size / (size - 1))


def leave_one_out_baseline(rewards_G: npt.NDArray[np.float64], valid_G: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """What `leave_one_out` subtracts when only the members in `valid_G` count: the mean reward of the other valid ones.

    With fewer than two valid members it is the reward itself (advantage 0). Where `valid_G` is False the value is not used:
    such a member is in no loss either.

    >>> leave_one_out_baseline(np.array([1.0, 1.0, 0.0, 0.0]), np.array([True, True, True, False]))[:3].tolist()
    [0.5, 0.5, 1.0]
    """
    num_valid = int(valid_G.sum())
    if num_valid <= 1:
        return rewards_G.copy()
    counted = np.where(valid_G, rewards_G, 0.0)
    return (counted.sum() - counted) / (num_valid - 1)
