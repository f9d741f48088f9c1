"""AdamW and its schedule, and how the learner's ranks share the work."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OptimizerConfig:
    learning_rate: float = 1e-3
    """Peak learning rate."""
    min_learning_rate: float = 0.0
    """End of the decay."""
    warmup_steps: int = 20
    """Linear warm-up, optimizer steps."""
    warmup_ratio: float = 0.0
    """Linear warm-up as a share of all steps, rounded up; above 0 it replaces warmup_steps."""
    schedule: str = "cosine"
    """cosine, linear or constant, after warm-up."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW moments."""
    weight_decay: float = 0.0
    """Decoupled decay."""
    max_grad_norm: float = 1.0
    """Global gradient clip."""
    skip_grad_norm: float = 1e5
    """An update whose gradient norm, before the clip, is at or above this is left out (SWE-Master: 1e5); 0: none is."""


@dataclass(frozen=True)
class LearnerConfig:
    num_ranks: int = 1
    """Ranks in one placement group: data-parallel groups times sequence_parallel."""
    zero_stage: int = 1
    """DeepSpeed ZeRO stage 1 to 3."""
    sequence_parallel: int = 1
    """Ranks that share one packed row (Ulysses); divides num_ranks and the model's attention heads."""
    tokens_per_micro_batch: int = 2048
    """Tokens of one packed row; a longer sample is a row by itself."""
    activation_checkpointing: bool = False
    """Keep only each layer's input and compute the rest again in the backward pass."""
    activation_offload: bool = False
    """Keep what the backward pass needs in host memory."""
    compile_layers: bool = False
    """Compile the layers' norms and MLPs into fused kernels (for GPUs; the first step of a run takes a minute longer)."""
    optimizer_offload: bool = False
    """Keep master weights and optimizer state in host memory."""
    parameter_offload: bool = False
    """Keep the weights in host memory (ZeRO-3 only)."""
    lora_rank: int = 0
    """Rank of low-rank adapters, which then are all that trains; 0: all weights train."""
    lora_alpha: float = 32.0
    """Adapters are scaled by lora_alpha / lora_rank."""
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    """Names of the linear layers that get adapters."""
    weight_bucket_mib: int = 128
    """Weights leave the learner in buckets of this size; a larger parameter is a bucket by itself."""
    num_threads: int = 1
    """CPU threads of one rank."""
    step_timeout_s: float = 600.0
    """An optimizer step that takes longer ends the run."""
    gpu_memory_gib: float = 80.0
    """Memory of one GPU; --plan refuses what needs more."""
    gpu_peak_tflops: float = 989.0
    """Dense bf16 peak of one GPU, for the time that --plan prints (H100, H200: 989)."""
    expected_mfu: float = 0.4
    """Share of the peak that --plan counts on; an assumption, not a measurement."""
