"""Which model, and how the engine that samples from it is sized."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelConfig:
    path: str = "tiny_base"
    """Hugging Face folder; `tiny_base` is the checkpoint shipped with this project."""
    dtype: str = "float32"
    """Weights and activations of learner and engine: float32 or bfloat16."""
    rope_factor: float = 1.0
    """YaRN: the context becomes this many times the model's own (32,768 to 81,920: 2.5), for learner and engine alike."""


@dataclass(frozen=True)
class EngineConfig:
    num_engines: int = 1
    """Engine replicas, one placement-group bundle each."""
    tensor_parallel: int = 1
    """GPUs per replica; 1 on a CPU machine."""
    max_model_len: int = 1024
    """Tokens of prompt and completion together."""
    max_num_seqs: int = 64
    """Sequences decoded at once by one replica."""
    kv_cache_gib: float = 0.25
    """KV cache of one replica, GiB (CPU machines; GPUs use gpu_memory_utilization)."""
    gpu_memory_utilization: float = 0.85
    """Share of a GPU's memory the engine may take."""
    start_timeout_s: float = 180.0
    """An engine that is not up by then is an error."""
    request_timeout_s: float = 120.0
    """A generation that takes longer is an engine failure."""
