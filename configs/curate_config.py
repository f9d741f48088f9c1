"""Which trajectories are worth learning from."""

from dataclasses import dataclass


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
    """`within_tokens`: fewer tokens than this (SWE-Master: 81920). 0: at most sft.max_tokens."""
    max_turns: int = 100
    """`within_turns`: at most this many turns (SWE-Master: 100)."""
    max_per_task: int = 0
    """Trajectories kept of one task, the shortest by tokens; 0: all (SWE-Master: all)."""
    heldout_share: float = 0.0
    """Share of the tasks whose trajectories are set aside for validation, chosen by instance id; never trained on."""
    split_seed: int = 0
    """Seeds that split; the same seed always sets the same tasks aside."""
