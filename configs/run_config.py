"""The whole of a run: every stage's settings in one tree. YAML files and `key=value` override these defaults."""

from dataclasses import dataclass, field

from configs.cluster_config import ClusterConfig
from configs.curate_config import CurateConfig
from configs.grpo_config import GRPOConfig
from configs.kuberay_config import KubeRayConfig
from configs.model_config import EngineConfig, ModelConfig
from configs.rollout_config import RolloutConfig
from configs.sandbox_config import SandboxConfig
from configs.sft_config import SFTConfig
from configs.tasks_config import TasksConfig
from configs.tts_config import TTSConfig
from configs.verifier_config import VerifierConfig
from configs.world_model_config import WorldModelConfig


@dataclass(frozen=True)
class RunConfig:
    name: str = "run"
    """Name of the run; its folder is `runs_dir/name-<time>`."""
    runs_dir: str = "runs"
    """Where run folders go."""
    seed: int = 0
    """Seeds everything that samples."""
    model: ModelConfig = field(default_factory=ModelConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    verifier: VerifierConfig = field(default_factory=VerifierConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    curate: CurateConfig = field(default_factory=CurateConfig)
    sft: SFTConfig = field(default_factory=SFTConfig)
    grpo: GRPOConfig = field(default_factory=GRPOConfig)
    world_model: WorldModelConfig = field(default_factory=WorldModelConfig)
    tts: TTSConfig = field(default_factory=TTSConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    kuberay: KubeRayConfig = field(default_factory=KubeRayConfig)
    trackers: tuple[str, ...] = ()
    """Where metrics go besides metrics.jsonl: wandb, tensorboard, prometheus (see docs/metrics.md)."""

    @property
    def training_stages(self) -> dict[str, SFTConfig | GRPOConfig | WorldModelConfig]:
        """The settings of every stage that trains, by the stage's name; each has its own learner."""
        return {"sft": self.sft, "grpo": self.grpo, "world-model": self.world_model}
