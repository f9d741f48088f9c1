"""Losses: what one optimizer step minimises.

Policy losses (named in trainers.loss_spec.POLICY_LOSSES) take their weights and normaliser from trainers.loss_aggregation.

To add one: write `trainers/losses/<name>.py` with a frozen dataclass that satisfies `TokenLoss` (below) and has the one field
`spec: LossSpec`, then add its line to `LOSSES`. A loss says three things: how much each token of a sample weighs, what a
sample adds to the normaliser, and the loss of each token. The step's loss is

    sum over tokens of weight * token loss / normaliser

with ONE normaliser, summed over all micro-batches and ranks, so that neither splitting changes the gradient.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from trainers.loss_spec import LossSpec
from trainers.losses.cispo import CISPO
from trainers.losses.clip_higher import ClipHigher
from trainers.losses.cross_entropy import CrossEntropy
from trainers.losses.gspo import GSPO
from trainers.train_sample import TrainSample


class TokenLoss(Protocol):
    """One loss. All tensors are flat: one entry per token whose weight is not 0 (N of them).

    `rows` (N,) int64 says which trajectory of the micro-batch each token belongs to; only losses over whole trajectories
    read it, and they raise ValueError without it. All tokens of a trajectory must be in the same micro-batch.
    """

    def weights(self, sample: TrainSample) -> npt.NDArray[np.float32]:
        """Weight per token, shape (T,)."""
        ...

    def normaliser(self, sample: TrainSample) -> float:
        """What the sample adds to the number the weighted sum is divided by."""
        ...

    def token_losses(
        self,
        policy_logprobs: torch.Tensor,
        rollout_logprobs: torch.Tensor,
        advantages: torch.Tensor,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Loss per token, shape (N,)."""
        ...

    def token_metrics(
        self,
        policy_logprobs: torch.Tensor,
        rollout_logprobs: torch.Tensor,
        advantages: torch.Tensor,
        loss_mask: torch.Tensor,
        rows: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Figures per token, shape (N,); reported as their mean over the tokens with loss_mask 1."""
        ...


LOSSES: dict[str, Callable[[LossSpec], TokenLoss]] = {
    "clip_higher": ClipHigher,
    "gspo": GSPO,
    "cispo": CISPO,
    "cross_entropy": CrossEntropy,
}
