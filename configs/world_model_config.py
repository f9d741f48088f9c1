"""SWE-World: a model that simulates execution, as scorer of patches (SWR) and as environment (SWT)."""

from dataclasses import dataclass, field

from configs.optimizer_config import LearnerConfig, OptimizerConfig
from configs.rollout_config import EndpointConfig


@dataclass(frozen=True)
class WorldModelConfig:
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    roles: tuple[str, ...] = ("reward",)
    """What the model learns: reward (SWR), transition (SWT), or both in one model."""
    context: str = "deployable"
    """What it sees of a patch: deployable, or curator (also the gold patch and the hidden tests; never for a new issue)."""
    show_observed: bool = True
    """Whether the scorer is shown what the episode last saw a command print. Without it a scorer is a little worse informed, and
    cannot be moved by an agent (or a simulated command) that prints `passed`; train it with the setting that it is asked with."""
    form: str = "compact"
    """How it answers: compact (small models) or full (JSON; the prompt says so)."""
    reasoner: str = "scripted"
    """Who writes the simulations to learn (reverse reasoning): none, scripted (micro tasks), or endpoint."""
    teacher: EndpointConfig = field(default_factory=EndpointConfig)
    """reasoner=endpoint: the teacher, which is also the judge."""
    teacher_tokens: int = 16384
    """Tokens of one simulation by the teacher, and of one answer of the judge."""
    num_steps: int = 300
    """Optimizer steps."""
    batch_size: int = 32
    """Samples per step."""
    max_tokens: int = 512
    """Longer samples are dropped and counted."""
    max_prompt_chars: int = 200_000
    """Prompts are cut to so many characters (by fixed priorities), then further until they fit the model beside an answer."""
    balanced: bool = True
    """Train on as many resolved as unresolved patches, and as many failed as successful commands."""
    context_loss_weight: float = 0.0
    """Weight of the loss on the prompt's tokens (0: the report only)."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    num_scores: int = 3
    """Simulated reports per candidate; the score is the mean of their probabilities."""
    max_report_tokens: int = 96
    """Tokens of one simulated report."""
    max_run_tokens: int = 128
    """Tokens of one simulated command."""
    temperature: float = 0.7
    """Sampling temperature of the reports (commands are sampled at 0)."""
    calibration: str = "temperature"
    """Map of probabilities fitted on tasks kept out of training: none, temperature, platt, isotonic (the last two also learn the
    share of resolved ones there, which is another on new tasks)."""
    calibration_share: float = 0.15
    """Share of the training tasks that are kept out for it, chosen by a hash of their name."""
    calibration_episodes: int = 4
    """Episodes that the newest policy plays on each of them for it; 0: the recorded rollouts are taken."""
    calibration_samples: int = 400
    """Patches, and commands, of these tasks that are scored at most."""
    num_engines: int = 1
    """Engines beside the policy's that serve the model during simulated rollouts or rewards."""
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    """Serves the model instead of own engines (no log-probs: a vote counts as 0 or 1); empty base_url: none."""
    max_model_len: int = 0
    """With an endpoint: tokens of prompt and answer together that its model holds, counted with the run's own tokenizer (leave
    some room); 0: engine.max_model_len. Own engines hold engine.max_model_len."""
