"""Which model, and how the engine that samples from it is sized."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ModelConfig:
    path: str = "tiny_base"
    """Hugging Face folder; `tiny_base` is the checkpoint shipped with this project."""
    dtype: str = "float32"
    """Weights and activations of learner and engine: float32 or bfloat16."""
    rope_factor: float = 1.0
    """YaRN: the context becomes this many times the model's own (32,768 to 81,920: 2.5), for learner and engine alike."""


@dataclass(frozen=True)
class SyncCheckConfig:
    """After each weight sync every engine samples a little, and the learner scores it."""

    num_prompts: int = 2
    """Prompts per engine; 0: no check."""
    prompt_tokens: int = 512
    """Tokens of a prompt: the beginning of a sample that was trained on."""
    num_tokens: int = 16
    """Tokens sampled from each."""
    warn_gap: float = 0.05
    """Mean |log-prob difference| in nats above which a warning is logged; 0: never."""
    stop_gap: float = 0.5
    """And above which the run stops; 0: never."""


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
    weight_transfer: str = "auto"
    """How new weights reach the engines: shm (files in shared memory, any machine), nccl (between GPUs), ipc (on one GPU), or
    auto: what fits the placement."""
    sleep_level: int = 1
    """What a colocated engine gives up while the learner trains, besides its KV cache: 1 moves its weights to host memory, 2
    drops them. On a CPU machine it only pauses."""
    start_timeout_s: float = 180.0
    """An engine that is not up by then is an error."""
    request_timeout_s: float = 100.0
    """A generation that takes longer, tries on other engines included, is an engine failure. Below an episode's time."""
    health_interval_s: float = 2.0
    """Engines are pinged this often."""
    missed_pings: int = 3
    """An engine that misses so many in a row is ended and restarted."""
    stall_timeout_s: float = 60.0
    """A ping is missed, too, when requests have waited that long for the engine's next step."""
    sync_check: SyncCheckConfig = field(default_factory=SyncCheckConfig)
