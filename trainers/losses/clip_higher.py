"""Clipped policy gradient with a wider upper bound (PPO's surrogate; the asymmetric bound is DAPO's clip-higher)."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trainers.loss_spec import LossSpec
from trainers.train_sample import TrainSample


@dataclass(frozen=True)
class ClipHigher:
    """Token loss max(-A r, -A clip(r, 1 - low, 1 + high)) with r = exp(policy_logprob - rollout_logprob).

    The behaviour policy is the one that sampled: its log-probs are the engine's. Aggregation is constant-length: a
    trajectory's token losses are summed and divided by L_max (not by its own length), then averaged over trajectories that
    have at least one trained token. A token whose advantage is 0 has no gradient, so it is counted but not computed.

    A=+1, r=1.5 -> -1.28;  A=+1, r=0.5 -> -0.5;  A=-1, r=0.5 -> 0.8;  A=-1, r=1.5 -> 1.5
    """

    spec: LossSpec

    def weights(self, sample: TrainSample) -> npt.NDArray[np.float32]:
        on = (sample.loss_mask != 0) & (sample.advantages != 0)
        return (on / self.spec.max_response_tokens).astype(np.float32)

    def normaliser(self, sample: TrainSample) -> float:
        return float(sample.loss_mask.any())

    def token_losses(
        self, policy_logprobs: torch.Tensor, rollout_logprobs: torch.Tensor, advantages: torch.Tensor
    ) -> torch.Tensor:
        ratio = torch.exp(policy_logprobs - rollout_logprobs)
        clipped = ratio.clamp(1 - self.spec.clip_low, 1 + self.spec.clip_high)
        return torch.maximum(-advantages * ratio, -advantages * clipped)

    def token_metrics(
        self,
        policy_logprobs: torch.Tensor,
        rollout_logprobs: torch.Tensor,
        advantages: torch.Tensor,
        loss_mask: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """`clip_fraction_*` count tokens whose gradient the clip cut; `kl` is the k3 estimate of KL(rollout | policy), nats."""
        log_ratio = policy_logprobs - rollout_logprobs
        ratio = torch.exp(log_ratio)
        return {
            "ratio": ratio,
            "clip_fraction_low": ((ratio < 1 - self.spec.clip_low) & (advantages < 0)).float(),
            "clip_fraction_high": ((ratio > 1 + self.spec.clip_high) & (advantages > 0)).float(),
            "logprob_gap": log_ratio.abs(),
            "kl": ratio - 1 - log_ratio,
            "entropy_estimate": -policy_logprobs,
        }
