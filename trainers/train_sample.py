"""What the learner trains on: one token sequence with everything the loss needs, as numpy arrays of equal length."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class TrainSample:
    """One sequence of T tokens. Shapes are all (T,).

    `loss_mask` is 1 on tokens the model sampled (assistant tokens with their end-of-turn token) and 0 elsewhere.
    `rollout_logprobs` and `advantages` are 0 where the mask is 0. `group` names the task, so that regrouping is never
    positional. `trajectory_tokens`: trained tokens of the whole trajectory where it was cut into several samples, so that
    cutting changes no weight; 0: this sample is the whole.
    """

    token_ids: npt.NDArray[np.int32]
    loss_mask: npt.NDArray[np.int8]
    rollout_logprobs: npt.NDArray[np.float32]
    advantages: npt.NDArray[np.float32]
    policy_versions: npt.NDArray[np.int32]
    group: str
    trajectory_tokens: int = 0

    def __post_init__(self) -> None:
        lengths = {
            len(self.token_ids),
            len(self.loss_mask),
            len(self.rollout_logprobs),
            len(self.advantages),
            len(self.policy_versions),
        }
        if len(lengths) != 1:
            raise ValueError(f"arrays of different lengths {sorted(lengths)} in a sample of {self.group}")

    @property
    def num_trained(self) -> int:
        """Tokens with loss."""
        return int((self.loss_mask != 0).sum())
