"""CISPO (MiniMax-M1, arXiv 2506.13585): the importance weight is clipped, never the gradient of a token."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trainers.loss_aggregation import sample_normaliser, token_weights
from trainers.loss_spec import LossSpec
from trainers.ratio_metrics import log_ratio, ratio_metrics
from trainers.train_sample import TrainSample


@dataclass(frozen=True)
class CISPO:
    """Token loss -A stop_gradient(clip(r, 1 - low, 1 + high)) policy_logprob: every token keeps a gradient.

    A=+1, r=1.5, low 0.2, high 0.28 -> gradient -1.28 with respect to the log-prob;  A=-1, r=0.5 -> 0.8
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
        ratio = torch.exp(log_ratio(policy_logprobs.detach(), rollout_logprobs))
        return -advantages * ratio.clamp(1 - self.spec.clip_low, 1 + self.spec.clip_high) * policy_logprobs

    def token_metrics(
        self,
        policy_logprobs: torch.Tensor,
        rollout_logprobs: torch.Tensor,
        advantages: torch.Tensor,
        loss_mask: torch.Tensor,
        rows: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """`clip_fraction_*` count tokens whose weight was clipped, whatever the sign of their advantage."""
        ratio = torch.exp(log_ratio(policy_logprobs, rollout_logprobs))
        cut_low, cut_high = ratio < 1 - self.spec.clip_low, ratio > 1 + self.spec.clip_high
        return ratio_metrics(policy_logprobs, rollout_logprobs, cut_low, cut_high)
