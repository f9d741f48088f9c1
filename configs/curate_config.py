"""Which trajectories are worth learning from."""

from dataclasses import dataclass, field

from configs.rollout_config import EndpointConfig


@dataclass(frozen=True)
class LspCurationConfig:
    """The filters `lsp_calls` and `lsp_judge` (SWE-Master's selection of language-server trajectories)."""

    min_successes: int = 2
    """`lsp_calls`: at least this many calls of lsp_tool that were answered with something (SWE-Master: 2)."""
    judge: EndpointConfig = field(default_factory=EndpointConfig)
    """`lsp_judge`: who judges."""
    judge_tries: int = 3
    """Answers asked for until one holds a readable verdict (SWE-Master: 3)."""
    judge_max_tokens: int = 16384
    """Tokens of the judge's answer (SWE-Master: 16384)."""
    judge_temperature: float = 0.7
    """Its sampling temperature."""
    judge_concurrency: int = 8
    """Trajectories judged at once."""
    judge_deadline_s: float = 600.0
    """One answer, retries and waiting for rate limits included."""
    hard_rule: bool = False
    """Tell the judge that one failed or empty call means no. The original does, and elsewhere says that a failure is not bad in
    itself; failed calls are taken out beforehand in any case."""
    seed: int = 0
    """Seeds the judge's answers."""


@dataclass(frozen=True)
class CurateConfig:
    filters: tuple[str, ...] = ("resolved", "mixed_results", "no_missed_calls", "turns_left", "within_tokens", "submitted")
    """Conditions to keep a trajectory, in order; names of verifier.trajectory_filter.TRAJECTORY_FILTERS."""
    mean_low: float = 1e-7
    """`mixed_results`: the task's mean reward is at least this (SWE-Master: 1e-7 for SFT)."""
    mean_high: float = 0.9999999
    """`mixed_results`: the task's mean reward is below this."""
    rl_mean_low: float = 0.3999999
    """Lower edge of the band for RL tasks, up to `mean_high`; counted and listed in difficulty.jsonl (SWE-Master: 0.4)."""
    statistics: tuple[str, ...] = ()
    """Files with a reward_mean per task (JSONL) that replace the means of this run's episodes; joined by instance id."""
    max_tokens: int = 0
    """`within_tokens`: fewer tokens than this in every training sample (SWE-Master: 81920). 0: at most sft.max_tokens."""
    max_turns: int = 100
    """`within_turns`: at most this many turns (SWE-Master: 100)."""
    max_per_task: int = 0
    """Trajectories kept of one task, the shortest by tokens; 0: all (SWE-Master: all)."""
    heldout_share: float = 0.0
    """Share of the tasks whose trajectories are set aside for validation, chosen by instance id; never trained on."""
    split_seed: int = 0
    """Seeds that split; the same seed always sets the same tasks aside."""
    lsp: LspCurationConfig = field(default_factory=LspCurationConfig)
