"""Importance weights between the learner and the engine that sampled, in numpy.

Engine and learner compute the same weights' log-probs with different kernels (and, under staleness, with different weights), so
a sampled token is a little off-policy. With w = exp(learner - rollout) per token, an `ImportanceWeight` says how much of w a
token's advantage is multiplied with. To add one: a frozen dataclass here and a line in `IMPORTANCE_WEIGHTS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from configs.grpo_config import GRPOConfig
from trainers.train_sample import TrainSample

Floats = npt.NDArray[np.floating]
MAX_LOG_WEIGHT = 20.0


class ImportanceWeight(Protocol):
    def __call__(self, log_weights_T: Floats, mask_T: npt.NDArray[np.bool_]) -> Floats:
        """Factors (T,) from log w (0 where the mask is False); 0 where the mask is False."""
        ...


@dataclass(frozen=True)
class Unweighted:
    """Every trained token counts fully."""

    def __call__(self, log_weights_T: Floats, mask_T: npt.NDArray[np.bool_]) -> Floats:
        return mask_T.astype(log_weights_T.dtype)


@dataclass(frozen=True)
class TokenTruncated:
    """min(w, cap) per token (truncated importance sampling). w 0.5 3.0 with cap 2 -> 0.5 2.0"""

    cap: float

    def __call__(self, log_weights_T: Floats, mask_T: npt.NDArray[np.bool_]) -> Floats:
        return np.where(mask_T, np.minimum(np.exp(log_weights_T), self.cap), 0.0)


@dataclass(frozen=True)
class SequenceTruncated:
    """min(product of the trajectory's w, cap) on each of its tokens. w 0.5 3.0 with cap 2 -> 1.5 1.5"""

    cap: float

    def __call__(self, log_weights_T: Floats, mask_T: npt.NDArray[np.bool_]) -> Floats:
        total = np.clip(log_weights_T.sum(where=mask_T), -MAX_LOG_WEIGHT, MAX_LOG_WEIGHT)
        return np.where(mask_T, np.minimum(np.exp(total), self.cap), 0.0)


@dataclass(frozen=True)
class BandPass:
    """w where low <= w <= high, else 0: tokens the two disagree about teach nothing (IcePop). w 0.5 1.1 in 0.8..1.25 -> 0 1.1"""

    low: float
    high: float

    def __call__(self, log_weights_T: Floats, mask_T: npt.NDArray[np.bool_]) -> Floats:
        weights = np.exp(log_weights_T)
        return np.where(mask_T & (weights >= self.low) & (weights <= self.high), weights, 0.0)


IMPORTANCE_WEIGHTS: dict[str, Callable[[GRPOConfig], ImportanceWeight]] = {
    "none": lambda config: Unweighted(),
    "token_truncated": lambda config: TokenTruncated(config.importance_cap),
    "sequence_truncated": lambda config: SequenceTruncated(config.importance_cap),
    "band_pass": lambda config: BandPass(*config.importance_band),
}


def log_weights(learner_logprobs_T: Floats, rollout_logprobs_T: Floats, mask_T: npt.NDArray[np.bool_]) -> Floats:
    """learner - rollout where the mask is True (clamped to +-20), else 0: NaN at a masked position goes nowhere."""
    gap = np.where(mask_T, learner_logprobs_T, 0.0) - np.where(mask_T, rollout_logprobs_T, 0.0)
    return np.clip(gap, -MAX_LOG_WEIGHT, MAX_LOG_WEIGHT)


def with_learner_logprobs(
    samples: Sequence[TrainSample], learner_logprobs: Sequence[npt.NDArray[np.float32]], weight: ImportanceWeight
) -> tuple[list[TrainSample], dict[str, float]]:
    """The samples as the loss wants them when its ratio is to the learner: `rollout_logprobs` become the learner's, and every
    advantage is multiplied with its token's weight (a weight is constant and not negative, so it may enter a clipped loss
    through the advantage).

    Also returns figures over trained tokens: `importance/mean`, `importance/changed` (share whose factor is not w),
    `importance/zero` (share that teaches nothing), and the engine's gap `logprob_gap`, `logprob_gap_max` in nats.
    """
    changed: list[TrainSample] = []
    factors: list[Floats] = [np.zeros(0)]
    logs: list[Floats] = [np.zeros(0)]
    for sample, learner_T in zip(samples, learner_logprobs, strict=True):
        mask = sample.loss_mask != 0
        log_w = log_weights(learner_T.astype(np.float64), sample.rollout_logprobs.astype(np.float64), mask)
        factor = weight(log_w, mask)
        changed.append(
            replace(
                sample,
                rollout_logprobs=np.where(mask, learner_T, 0).astype(np.float32),
                advantages=np.where(mask, np.where(mask, sample.advantages, 0) * factor, 0).astype(np.float32),
            )
        )
        factors.append(factor[mask])
        logs.append(log_w[mask])
    factor_N, log_N = np.concatenate(factors), np.concatenate(logs)
    if len(log_N) == 0:
        return changed, {}
    return changed, {
        "importance/mean": float(factor_N.mean()),
        "importance/changed": float((np.abs(factor_N - np.exp(log_N)) > 1e-9).mean()),
        "importance/zero": float((factor_N == 0).mean()),
        "logprob_gap": float(np.abs(log_N).mean()),
        "logprob_gap_max": float(np.abs(log_N).max()),
    }
