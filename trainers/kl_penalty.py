"""The k3 estimate of the divergence from a reference policy (Schulman 2020), as a value and as what it adds to advantages."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from trainers.train_sample import TrainSample

Floats = npt.NDArray[np.floating]
MAX_LOG_RATIO = 20.0


def k3(policy_logprobs: Floats, reference_logprobs: Floats) -> Floats:
    """exp(d) - 1 - d with d = reference - policy: unbiased for KL(policy | reference) on the policy's own tokens, never below 0.

    >>> k3(np.array([-1.0]), np.array([-1.0])).tolist()
    [0.0]
    """
    d = np.minimum(reference_logprobs - policy_logprobs, MAX_LOG_RATIO)
    return np.maximum(np.expm1(d) - d, 0.0)


def k3_gradient(policy_logprobs: Floats, reference_logprobs: Floats) -> Floats:
    """Derivative of `k3` with respect to the policy's log-prob: 1 - exp(reference - policy)."""
    return -np.expm1(np.minimum(reference_logprobs - policy_logprobs, MAX_LOG_RATIO))


def with_kl_penalty(
    samples: Sequence[TrainSample], reference_logprobs: Sequence[npt.NDArray[np.float32]], coefficient: float
) -> tuple[list[TrainSample], dict[str, float]]:
    """Samples whose advantages carry the gradient of coefficient * k3.

    `rollout_logprobs` must be the log-probs of the weights the step starts from (trainers.importance_weights): there the ratio
    is 1, a token's policy loss has gradient -advantage, and lowering the advantage by coefficient * k3_gradient is the same
    as adding the penalty to the loss. Also returns `kl_reference`, the mean k3 over trained tokens in nats.
    """
    changed: list[TrainSample] = []
    values: list[Floats] = [np.zeros(0)]
    for sample, reference_T in zip(samples, reference_logprobs, strict=True):
        mask = sample.loss_mask != 0
        policy = np.where(mask, sample.rollout_logprobs, 0).astype(np.float64)
        reference = np.where(mask, reference_T, 0).astype(np.float64)
        advantages = np.where(mask, sample.advantages, 0) - coefficient * k3_gradient(policy, reference) * mask
        changed.append(replace(sample, advantages=advantages.astype(np.float32)))
        values.append(k3(policy, reference)[mask])
    value_N = np.concatenate(values)
    return changed, {"kl_reference": float(value_N.mean())} if len(value_N) else {}
