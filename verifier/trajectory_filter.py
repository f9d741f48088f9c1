"""Which trajectories are fit to be imitated: SWE-Master's filters as named predicates over scalar facts.

To add one: a function (facts, limits) -> bool that says whether to keep the trajectory, and its line in TRAJECTORY_FILTERS.
"""

from collections.abc import Callable
from dataclasses import dataclass

from configs.curate_config import CurateConfig
from envpool.trajectory import StopReason


class TrajectoryFilterError(ValueError):
    """A filter that does not exist, or limits that leave nothing; one line."""


@dataclass(frozen=True)
class TrajectoryFacts:
    """What is known of a stored trajectory without decoding its turns.

    `longest_sample` are the tokens of its longest training sample: all of them, unless the history was rewritten.
    `task_mean` is the mean reward of the task's attempts, NaN when there are no statistics or they are in conflict.
    `num_history_reads` counts tool calls that try to read the version history. The last two are read from the turns, and only
    where a filter needs them: answered calls of lsp_tool, and the judge's word on their use ("" before it was asked).
    """

    instance_id: str
    sample_index: int
    policy_name: str
    resolved: bool
    stop_reason: StopReason
    num_turns: int
    num_tokens: int
    longest_sample: int
    num_missed_calls: int
    num_repeated_calls: int
    num_history_reads: int
    task_mean: float = float("nan")
    num_lsp_successes: int = 0
    lsp_verdict: str = ""


@dataclass(frozen=True)
class FilterLimits:
    """The numbers the predicates compare with: mean_low <= mean < mean_high, tokens below `tokens_below`, turns <= max_turns."""

    mean_low: float
    mean_high: float
    tokens_below: int
    max_turns: int
    min_lsp_successes: int = 2

    def __post_init__(self) -> None:
        if not self.mean_low < self.mean_high:
            raise TrajectoryFilterError(f"curate.mean_low={self.mean_low:g} must be below curate.mean_high={self.mean_high:g}")


def filter_limits(config: CurateConfig, sft_max_tokens: int) -> FilterLimits:
    """The limits a configuration asks for. Raises TrajectoryFilterError when the band is empty."""
    tokens_below = config.max_tokens or sft_max_tokens + 1
    return FilterLimits(config.mean_low, config.mean_high, tokens_below, config.max_turns, config.lsp.min_successes)


def resolved(facts: TrajectoryFacts, limits: FilterLimits) -> bool:
    """The hidden tests pass."""
    return facts.resolved


def mixed_results(facts: TrajectoryFacts, limits: FilterLimits) -> bool:
    """The task is neither always nor never solved; False without statistics."""
    return limits.mean_low <= facts.task_mean < limits.mean_high


def submitted(facts: TrajectoryFacts, limits: FilterLimits) -> bool:
    """It ends by the agent's own submit."""
    return facts.stop_reason.is_submit


def turns_left(facts: TrajectoryFacts, limits: FilterLimits) -> bool:
    """The turn limit did not end it. A submit in the very last turn counts as finished, whatever its number."""
    return facts.stop_reason is not StopReason.MAX_TURNS


def in_time(facts: TrajectoryFacts, limits: FilterLimits) -> bool:
    """Neither a token limit nor the episode's time ended it."""
    return facts.stop_reason not in (StopReason.MAX_TOKENS, StopReason.CONTEXT_FULL, StopReason.DEADLINE)


def no_missed_calls(facts: TrajectoryFacts, limits: FilterLimits) -> bool:
    """Every turn holds a tool call, so the hint about a missing one appears nowhere."""
    return facts.num_missed_calls == 0


def one_call_per_turn(facts: TrajectoryFacts, limits: FilterLimits) -> bool:
    """No turn writes a second call (only the first is carried out)."""
    return facts.num_repeated_calls == 0


def within_tokens(facts: TrajectoryFacts, limits: FilterLimits) -> bool:
    """Every training sample is short enough (SWE-Master: fewer than 81,920 tokens)."""
    return facts.longest_sample < limits.tokens_below


def within_turns(facts: TrajectoryFacts, limits: FilterLimits) -> bool:
    """Few enough turns (SWE-Master's paper: at most 100)."""
    return facts.num_turns <= limits.max_turns


def no_history_reads(facts: TrajectoryFacts, limits: FilterLimits) -> bool:
    """Never tried to read the version history."""
    return facts.num_history_reads == 0


def lsp_calls(facts: TrajectoryFacts, limits: FilterLimits) -> bool:
    """The language server answered often enough."""
    return facts.num_lsp_successes >= limits.min_lsp_successes


def lsp_judge(facts: TrajectoryFacts, limits: FilterLimits) -> bool:
    """The judge finds the use of the language server worth imitating; an unreadable verdict is none."""
    return facts.lsp_verdict == "yes"


Predicate = Callable[[TrajectoryFacts, FilterLimits], bool]

TRAJECTORY_FILTERS: dict[str, Predicate] = {
    "resolved": resolved,
    "mixed_results": mixed_results,
    "submitted": submitted,
    "turns_left": turns_left,
    "in_time": in_time,
    "no_missed_calls": no_missed_calls,
    "one_call_per_turn": one_call_per_turn,
    "within_tokens": within_tokens,
    "within_turns": within_turns,
    "no_history_reads": no_history_reads,
    "lsp_calls": lsp_calls,
    "lsp_judge": lsp_judge,
}


def select_filters(names: tuple[str, ...]) -> dict[str, Predicate]:
    """The filters of these names, in this order. Raises TrajectoryFilterError for an unknown or repeated name."""
    for name in names:
        if name not in TRAJECTORY_FILTERS:
            raise TrajectoryFilterError(f"curate.filters: there is no filter {name!r}; known: {', '.join(TRAJECTORY_FILTERS)}")
    if len(set(names)) != len(names):
        raise TrajectoryFilterError(f"curate.filters: a name is given twice in {', '.join(names)}")
    return {name: TRAJECTORY_FILTERS[name] for name in names}
