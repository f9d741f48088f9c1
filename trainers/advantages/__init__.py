"""Advantages: from the rewards of a group to one number per trajectory.

To add one: write `trainers/advantages/<name>.py` with a pure function `rewards_G -> advantages_G` (float64 arrays of shape
(G,), order kept) and add its line to `ADVANTAGES`. The rewards of members whose loss is masked are not among `rewards_G`.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from trainers.advantages.group_mean import group_mean, group_mean_std
from trainers.advantages.leave_one_out import leave_one_out

AdvantageFn = Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]

ADVANTAGES: dict[str, AdvantageFn] = {
    "leave_one_out": leave_one_out,
    "group_mean": group_mean,
    "group_mean_std": group_mean_std,
}
