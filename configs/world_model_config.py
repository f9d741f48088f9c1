"""SWE-World's reward model (SWR): a model that reads a patch and writes a simulated test report."""

from dataclasses import dataclass, field

from configs.optimizer_config import LearnerConfig, OptimizerConfig


@dataclass(frozen=True)
class WorldModelConfig:
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    num_steps: int = 300
    """Optimizer steps."""
    batch_size: int = 32
    """Samples per step."""
    max_tokens: int = 512
    """Longer samples are dropped and counted."""
    balanced: bool = True
    """Train on as many resolved as unresolved patches."""
    context_loss_weight: float = 0.0
    """Weight of the loss on the prompt's tokens (0: the report only)."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    num_scores: int = 3
    """Simulated reports per candidate; the score is their mean."""
    max_report_tokens: int = 96
    """Tokens of one simulated report."""
    temperature: float = 0.7
    """Sampling temperature of the reports."""
