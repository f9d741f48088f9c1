"""Supervised fine-tuning on curated trajectories."""

from dataclasses import dataclass, field

from configs.optimizer_config import LearnerConfig, OptimizerConfig


@dataclass(frozen=True)
class SFTConfig:
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    num_steps: int = 300
    """Optimizer steps; not read when epochs is set."""
    epochs: float = 0.0
    """Passes over the samples; above 0 the steps are floor(samples / batch_size) times this."""
    batch_size: int = 32
    """Trajectories per step."""
    max_tokens: int = 1024
    """The limit of a sample."""
    overlong: str = "drop"
    """Samples above max_tokens: drop, or cut at the right; counted either way."""
    context_loss_weight: float = 0.0
    """Weight of the loss on tokens the model did not write (0: assistant tokens only)."""
    validation_samples: int = 0
    """Samples kept out of training; their loss is measured at every checkpoint, and the best checkpoint is kept."""
    data_share: float = 1.0
    """Share of the samples to train on, chosen by the seed (for data-scaling curves)."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    expected_samples: int = 12567
    """Samples that --plan counts on when epochs is set (nothing has been curated yet)."""
    expected_tokens: int = 40000
    """Mean tokens of a sample that --plan counts on."""
