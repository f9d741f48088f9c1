"""Which trajectories are fit to be imitated: SWE-Master's format filters as named predicates, with what each of them drops.

To add one: a function that returns a predicate over `ScoredTrajectory`, and its line in the list a caller passes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from envpool.trajectory import StopReason
from verifier.reward import Group, ScoredTrajectory


@dataclass(frozen=True)
class TrajectoryFilter:
    """A name for the report and the condition to keep a trajectory."""

    name: str
    keep: Callable[[ScoredTrajectory], bool]


RESOLVED = TrajectoryFilter("resolved", lambda scored: scored.resolved)
SUBMITTED = TrajectoryFilter("submitted", lambda scored: scored.trajectory.stop_reason is StopReason.SUBMITTED)
NO_MISSED_CALLS = TrajectoryFilter("no_missed_calls", lambda scored: all(turn.action for turn in scored.trajectory.turns))


def within_tokens(max_tokens: int) -> TrajectoryFilter:
    """Keeps trajectories of at most `max_tokens` tokens (SWE-Master: below 81,920)."""
    return TrajectoryFilter("within_tokens", lambda scored: scored.trajectory.num_tokens <= max_tokens)


def within_turns(max_turns: int) -> TrajectoryFilter:
    """Keeps trajectories of at most `max_turns` turns (SWE-Master: 100)."""
    return TrajectoryFilter("within_turns", lambda scored: len(scored.trajectory.turns) <= max_turns)


def format_filters(max_tokens: int) -> tuple[TrajectoryFilter, ...]:
    """SWE-Master's filters for SFT: resolved, ended by submit, a tool call in every turn, short enough."""
    return (RESOLVED, SUBMITTED, NO_MISSED_CALLS, within_tokens(max_tokens))


@dataclass(frozen=True)
class FilterCounts:
    """`dropped` has one entry per filter, in order: trajectories for which it was the first to fail."""

    num_seen: int
    num_kept: int
    dropped: dict[str, int]


def filter_trajectories(
    trajectories: Iterable[ScoredTrajectory], filters: Sequence[TrajectoryFilter]
) -> tuple[tuple[ScoredTrajectory, ...], FilterCounts]:
    """The trajectories that pass every filter, in order, and what each filter dropped."""
    kept: list[ScoredTrajectory] = []
    dropped = {condition.name: 0 for condition in filters}
    num_seen = 0
    for scored in trajectories:
        num_seen += 1
        failed = next((condition.name for condition in filters if not condition.keep(scored)), None)
        if failed is None:
            kept.append(scored)
        else:
            dropped[failed] += 1
    return tuple(kept), FilterCounts(num_seen, len(kept), dropped)


@dataclass(frozen=True)
class MixedCounts:
    """Tasks by the outcomes of their episodes; `empty` are those whose every episode was lost."""

    all_fail: int
    mixed: int
    all_pass: int
    empty: int


def mixed_groups(groups: Iterable[Group]) -> tuple[tuple[Group, ...], MixedCounts]:
    """Groups of tasks with both resolved and unresolved members, and the counts. Groups of one task are taken together."""
    by_task: dict[str, list[Group]] = {}
    for group in groups:
        by_task.setdefault(group.instance_id, []).append(group)
    kept: list[Group] = []
    counts = {"all_fail": 0, "mixed": 0, "all_pass": 0, "empty": 0}
    for parts in by_task.values():
        outcomes = {member.resolved for part in parts for member in part.members}
        kind = {frozenset(): "empty", frozenset({True}): "all_pass", frozenset({False}): "all_fail"}.get(
            frozenset(outcomes), "mixed"
        )
        counts[kind] += 1
        if kind == "mixed":
            kept.extend(parts)
    return tuple(kept), MixedCounts(**counts)
