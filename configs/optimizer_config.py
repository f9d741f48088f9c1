"""AdamW and its schedule."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OptimizerConfig:
    learning_rate: float = 1e-3
    """Peak learning rate."""
    min_learning_rate: float = 0.0
    """End of the decay."""
    warmup_steps: int = 20
    """Linear warm-up, optimizer steps."""
    schedule: str = "cosine"
    """cosine, linear or constant, after warm-up."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW moments."""
    weight_decay: float = 0.0
    """Decoupled decay."""
    max_grad_norm: float = 1.0
    """Global gradient clip."""


@dataclass(frozen=True)
class LearnerConfig:
    num_ranks: int = 1
    """Data-parallel ranks in one placement group."""
    zero_stage: int = 1
    """DeepSpeed ZeRO stage 1 to 3."""
    tokens_per_micro_batch: int = 2048
    """Padded tokens of one forward pass."""
    num_threads: int = 1
    """CPU threads of one rank."""
    step_timeout_s: float = 600.0
    """An optimizer step that takes longer ends the run."""
