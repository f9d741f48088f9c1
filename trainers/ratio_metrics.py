"""Figures of a policy ratio that every policy loss reports."""

import torch

MAX_LOG_RATIO = 20.0
"""Log ratios are clamped here: beyond it a ratio is no estimate of anything and would overflow float32."""


def log_ratio(policy_logprobs: torch.Tensor, rollout_logprobs: torch.Tensor) -> torch.Tensor:
    """log of policy over behaviour policy, clamped to +-MAX_LOG_RATIO; same shape."""
    return (policy_logprobs - rollout_logprobs).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def ratio_metrics(
    policy_logprobs: torch.Tensor,
    rollout_logprobs: torch.Tensor,
    cut_low: torch.Tensor,
    cut_high: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Per token, shape (N,): `ratio`; `clip_fraction_*` from the two masks; `logprob_gap` = |log ratio| in nats; `kl`, the k3
    estimate of KL(rollout | policy); `entropy_estimate` = -log p."""
    logs = policy_logprobs - rollout_logprobs
    ratio = torch.exp(logs.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))
    return {
        "ratio": ratio,
        "clip_fraction_low": cut_low.float(),
        "clip_fraction_high": cut_high.float(),
        "logprob_gap": logs.abs(),
        "kl": ratio - 1 - logs,
        "entropy_estimate": -policy_logprobs,
    }
