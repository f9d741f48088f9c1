"""Next-token cross entropy for supervised fine-tuning."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trainers.loss_spec import LossSpec
from trainers.train_sample import TrainSample


@dataclass(frozen=True)
class CrossEntropy:
    """Weighted mean of -log p over the step's tokens: weight 1 on assistant tokens, `context_loss_weight` on all others.

    The first token of a sample has nothing before it and weighs 0.

    loss_mask 0 0 1 1 with context_loss_weight 0.1 -> weights 0 0.1 1 1, normaliser 2.1
    """

    spec: LossSpec

    def weights(self, sample: TrainSample) -> npt.NDArray[np.float32]:
        weights = np.where(sample.loss_mask != 0, 1.0, self.spec.context_loss_weight).astype(np.float32)
        weights[:1] = 0
        return weights

    def normaliser(self, sample: TrainSample) -> float:
        return float(self.weights(sample).sum(dtype=np.float64))

    def token_losses(
        self,
        policy_logprobs: torch.Tensor,
        rollout_logprobs: torch.Tensor,
        advantages: torch.Tensor,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        return -policy_logprobs

    def token_metrics(
        self,
        policy_logprobs: torch.Tensor,
        rollout_logprobs: torch.Tensor,
        advantages: torch.Tensor,
        loss_mask: torch.Tensor,
        rows: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """`assistant_loss`: cross entropy of the tokens the model has to write, nats per token."""
        return {"assistant_loss": -policy_logprobs}
