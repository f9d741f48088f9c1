"""Group sequence policy optimization (arXiv 2507.18071): one ratio per trajectory, length-normalised, clipped as a whole."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trainers.loss_aggregation import sample_normaliser, token_weights
from trainers.loss_spec import LossSpec
from trainers.ratio_metrics import log_ratio, ratio_metrics
from trainers.train_sample import TrainSample


@dataclass(frozen=True)
class GSPO:
    """Token loss max(-A s, -A clip(s, 1 - low, 1 + high)) with s = exp(mean over the trajectory's trained tokens of
    (policy_logprob - rollout_logprob)).

    The value of s is the same on all tokens of a trajectory; its gradient reaches each token through that token's own
    log-prob (the paper's token form). Averaged over a trajectory's tokens this is the gradient of the sequence form.

    Log ratios 0.2 and -0.1 -> s = exp(0.05) on both tokens.
    """

    spec: LossSpec

    def weights(self, sample: TrainSample) -> npt.NDArray[np.float32]:
        return token_weights(self.spec, sample, whole_sequence=True)

    def normaliser(self, sample: TrainSample) -> float:
        return sample_normaliser(self.spec, sample)

    def token_losses(
        self,
        policy_logprobs: torch.Tensor,
        rollout_logprobs: torch.Tensor,
        advantages: torch.Tensor,
        rows: torch.Tensor | None = None,
    ) -> torch.Tensor:
        level = row_means((policy_logprobs - rollout_logprobs).detach(), rows)
        ratio = torch.exp(log_ratio(level + policy_logprobs - policy_logprobs.detach(), torch.zeros_like(level)))
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
        """As the other policy losses, with clip fractions of the trajectory's ratio; `sequence_ratio` is that ratio."""
        ratio = torch.exp(row_means(policy_logprobs - rollout_logprobs, rows))
        cut_low = (ratio < 1 - self.spec.clip_low) & (advantages < 0)
        cut_high = (ratio > 1 + self.spec.clip_high) & (advantages > 0)
        return ratio_metrics(policy_logprobs, rollout_logprobs, cut_low, cut_high) | {"sequence_ratio": ratio}


def row_means(values: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
    """The mean of each row's values, repeated at its places; `rows` (N,) int64 says which row each value belongs to.

    values 1 3 5, rows 0 0 1 -> 2 2 5
    """
    if rows is None:
        raise ValueError("a sequence-level loss needs `rows`: which trajectory each token belongs to")
    size = int(rows.max()) + 1 if len(rows) else 0
    sums = torch.zeros(size, dtype=values.dtype, device=values.device).index_add(0, rows, values)
    counts = torch.zeros(size, dtype=values.dtype, device=values.device).index_add(0, rows, torch.ones_like(values))
    return (sums / counts.clamp(min=1))[rows]
