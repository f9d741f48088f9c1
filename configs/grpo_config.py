"""Reinforcement learning with real test execution."""

from dataclasses import dataclass, field

from configs.optimizer_config import LearnerConfig, OptimizerConfig


@dataclass(frozen=True)
class GRPOConfig:
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(learning_rate=2e-4, warmup_steps=0, schedule="constant")
    )
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    initial_policy: str = "sft"
    """What training begins with: sft (the run's sft stage) or base (`model.path` as it is, for a model trained elsewhere)."""
    num_steps: int = 25
    """Steps; each trains on one batch, the groups of a step, with `updates_per_batch` optimizer steps."""
    groups_per_step: int = 16
    """Tasks per step."""
    group_size: int = 8
    """Episodes per task."""
    temperature: float = 1.0
    """Sampling temperature of the rollouts, at least 0.01; the learner divides its logits by the same."""
    updates_per_batch: int = 1
    """Optimizer steps on the groups of one step, in consecutive equal parts (SWE-Master: 4 of 8 tasks each)."""
    advantage: str = "leave_one_out"
    """One of trainers.advantages.ADVANTAGES: leave_one_out, group_mean, group_mean_std."""
    loss: str = "clip_higher"
    """clip_higher, gspo (wants clips of 3e-4 and 4e-4) or cispo."""
    aggregation: str = "seq-mean-token-sum-norm"
    """One of trainers.loss_aggregation.AGGREGATIONS, also seq-mean-token-sum, seq-mean-token-mean, token-mean."""
    clip_low: float = 0.2
    """Ratio clipped below at 1 - clip_low."""
    clip_high: float = 0.28
    """Ratio clipped above at 1 + clip_high."""
    max_response_tokens: int = 512
    """L_max, the constant every trajectory's token sum is divided by."""
    ratio_to: str = "rollout"
    """Denominator of the ratio: rollout (the engine's log-probs) or learner (computed again before the step)."""
    importance_weight: str = "none"
    """Learner against engine, with ratio_to=learner: none, token_truncated, sequence_truncated, band_pass."""
    importance_cap: float = 2.0
    """Truncated weights: their upper bound."""
    importance_band: tuple[float, float] = (0.5, 5.0)
    """band_pass: tokens whose weight is outside train nothing."""
    kl_coefficient: float = 0.0
    """Weight of the k3 estimate of KL(policy | first policy); 0: none. Each rank then holds that model too."""
    zero_spread_groups: str = "keep"
    """Groups whose rewards are all equal: keep (no gradient, counted in the mean), drop, or replace (other tasks are played)."""
    max_replacement_rounds: int = 3
    """replace: rounds of other tasks at most; what is flat after them is dropped."""
    max_flat_groups: int = 1024
    """So many groups without spread in a row end the run: it has no learning signal. 0: never."""
    solve_rate_band: tuple[float, float] = (0.0, 1.0)
    """Tasks whose solve rate in this run is outside are not played again; (0, 1) plays all."""
    solve_rate_episodes: int = 8
    """Episodes of a task before its solve rate counts."""
    max_staleness: int = 0
    """Batches that rollouts may run ahead of the learner, a hard bound for every trained token; 0 is synchronous."""
    step_timeout_s: float = 600.0
    """A step whose rollouts are not there by then trains with those that are. Above the time of an episode and its grading."""
    late_groups: str = "cut"
    """A group that one more step would make too old: cut (the step waits for it, and when its time is up the group trains with
    its finished members), mask (nobody waits; it is played on and its tokens that are too old train nothing) or drop."""
    checkpoint_every: int = 5
    """Steps between checkpoints."""
    store_policy_logprobs: bool = False
    """Keep the learner's log-probs for the viewer also with ratio_to=rollout (one more forward pass a step)."""
    learner_restarts: int = 3
    """A learner that dies starts again from the last checkpoint, so often without a new one; then the run ends."""
    eval_every: int = 0
    """Steps between evaluations on held-out tasks, played beside the training; 0: none."""
    eval_tasks: int = 32
    """Held-out tasks of an evaluation, at most."""
    eval_samples: int = 1
    """Episodes per task of an evaluation."""
    patience: int = 0
    """So many evaluations in a row without a better one end the run, and the best checkpoint is exported; 0: never."""
