"""Reinforcement learning with real test execution."""

from dataclasses import dataclass, field

from configs.optimizer_config import LearnerConfig, OptimizerConfig


@dataclass(frozen=True)
class GRPOConfig:
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=2e-4, warmup_steps=0, schedule="constant")
    )
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    num_steps: int = 25
    """Optimizer steps."""
    groups_per_step: int = 16
    """Tasks per step."""
    group_size: int = 8
    """Episodes per task."""
    temperature: float = 1.0
    """Sampling temperature of the rollouts."""
    advantage: str = "leave_one_out"
    """One of trainers.advantages.ADVANTAGES."""
    loss: str = "clip_higher"
    """One of trainers.losses.LOSSES."""
    clip_low: float = 0.2
    """Ratio clipped below at 1 - clip_low."""
    clip_high: float = 0.28
    """Ratio clipped above at 1 + clip_high."""
    max_response_tokens: int = 512
    """L_max, the constant every trajectory's token sum is divided by."""
    zero_spread_groups: str = "keep"
    """Groups whose rewards are all equal: keep (no gradient, counted in the mean) or drop."""
    max_staleness: int = 0
    """Optimizer steps that rollouts may run ahead; 0 is synchronous."""
    step_timeout_s: float = 600.0
    """A step whose rollouts are not there by then trains with those that are."""
    checkpoint_every: int = 5
    """Steps between checkpoints."""
