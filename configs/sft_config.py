"""Supervised fine-tuning on curated trajectories."""

from dataclasses import dataclass, field

from configs.optimizer_config import LearnerConfig, OptimizerConfig


@dataclass(frozen=True)
class SFTConfig:
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    num_steps: int = 300
    """Optimizer steps."""
    batch_size: int = 32
    """Trajectories per step."""
    max_tokens: int = 1024
    """Longer samples are dropped and counted."""
    context_loss_weight: float = 0.0
    """Weight of the loss on tokens the model did not write (0: assistant tokens only)."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
