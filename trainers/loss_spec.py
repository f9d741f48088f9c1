"""Which loss an optimizer step minimises, as plain data (it crosses process boundaries; no torch needed)."""

from dataclasses import dataclass

from configs.grpo_config import GRPOConfig

POLICY_LOSSES = ("clip_higher", "gspo", "cispo")
"""The losses of trainers.losses.LOSSES that a GRPO stage can take (named here so that a check needs no torch)."""


@dataclass(frozen=True)
class LossSpec:
    """`name` is one of trainers.losses.LOSSES; each loss reads the knobs it knows and ignores the others."""

    name: str
    clip_low: float = 0.2
    """Policy losses: the ratio is clipped below at 1 - clip_low."""
    clip_high: float = 0.28
    """Policy losses: the ratio is clipped above at 1 + clip_high."""
    max_response_tokens: int = 512
    """L_max, the constant every trajectory's token sum is divided by (aggregation seq-mean-token-sum-norm)."""
    context_loss_weight: float = 0.0
    """cross_entropy: weight of tokens the model did not write; its own tokens have weight 1."""
    aggregation: str = "seq-mean-token-sum-norm"
    """Policy losses: one of trainers.loss_aggregation.AGGREGATIONS."""


def policy_loss_spec(config: GRPOConfig) -> LossSpec:
    """The loss a GRPO stage is configured with."""
    return LossSpec(
        name=config.loss,
        clip_low=config.clip_low,
        clip_high=config.clip_high,
        max_response_tokens=config.max_response_tokens,
        aggregation=config.aggregation,
    )


def sft_loss_spec(context_loss_weight: float) -> LossSpec:
    """Cross entropy on the tokens the teacher wrote, plus `context_loss_weight` times that on all others."""
    return LossSpec(name="cross_entropy", context_loss_weight=context_loss_weight)
