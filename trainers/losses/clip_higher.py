"""Clipped policy gradient with a wider upper bound (PPO's surrogate; the asymmetric bound is DAPO's clip-higher)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trainers.loss_aggregation import sample_normaliser, token_weights
from trainers.loss_spec import LossSpec
from trainers.ratio_metrics import log_ratio, ratio_metrics
from trainers.train_sample import TrainSample


@dataclass(frozen=True)
class ClipHigher:
    """Token loss max(-A r, -A clip(r, 1 - low, 1 + high)) with r = exp(policy_logprob - rollout_logprob).

    A token whose advantage is 0 has no gradient, so it is counted but not computed.

    A=+1, r=1.5 -> -1.28;  A=+1, r=0.5 -> -0.5;  A=-1, r=0.5 -> 0.8;  A=-1, r=1.5 -> 1.5
    """

    spec: LossSpec

    def weights(self, sample: TrainSample) -> npt.NDArray[np.float32]:
        return token_weights(self.spec, sample)

    def normaliser(self, sample: TrainSample) -> float:
        return sample_normaliser(self.spec, sample)

    def token_losses(
        self,
        policy_logprobs: torch.Tensor,
        rollout_logprobs: torch.Tensor,
        advantages: torch.Tensor,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        ratio = torch.exp(log_ratio(policy_logprobs, rollout_logprobs))
        clipped = ratio.clamp(1 - self.spec.clip_low, 1 + self.spec.clip_high)
        return torch.maximum(-advantages * ratio, -advantages * clipped)

    def token_metrics(
        self,
        policy_logprobs: torch.Tensor,
        rollout_logprobs: torch.Tensor,
        advantages: torch.Tensor,
        loss_mask: torch.Tensor,
        rows: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """`clip_fraction_*` count tokens whose gradient the clip cut; the rest is trainers.ratio_metrics'."""
        ratio = torch.exp(log_ratio(policy_logprobs, rollout_logprobs))
        cut_low = (ratio < 1 - self.spec.clip_low) & (advantages < 0)
        cut_high = (ratio > 1 + self.spec.clip_high) & (advantages > 0)
        return ratio_metrics(policy_logprobs, rollout_logprobs, cut_low, cut_high)
