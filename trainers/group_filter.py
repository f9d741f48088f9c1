"""Groups that teach nothing: all rewards equal, so every advantage is 0."""

from collections.abc import Sequence

from verifier.reward import Group

POLICIES = ("keep", "drop", "replace")


class NoLearningSignalError(RuntimeError):
    """So many groups in a row had no spread that going on is a waste."""


def has_spread(group: Group) -> bool:
    """Whether the rewards of the members that train are not all equal."""
    return len({member.reward.value for member in group.members if member.reward.train}) > 1


def filter_groups(groups: Sequence[Group], zero_spread: str) -> list[Group]:
    """`keep`: all groups (those without spread have no gradient but count in the mean, as in SWE-Master); `drop` and `replace`:
    only those with spread, so that the mean is over trajectories that teach something (`replace` has played other tasks in
    their place before)."""
    if zero_spread not in POLICIES:
        raise ValueError(f"unknown policy {zero_spread!r} for groups without spread; one of {', '.join(POLICIES)}")
    return list(groups) if zero_spread == "keep" else [group for group in groups if has_spread(group)]


def num_to_replace(groups: Sequence[Group], wanted: int, zero_spread: str) -> int:
    """Other tasks to play so that `wanted` groups with spread could come together (dynamic sampling, DAPO)."""
    return max(wanted - len(filter_groups(groups, "drop")), 0) if zero_spread == "replace" else 0


def flat_groups_in_a_row(groups: Sequence[Group], before: int) -> int:
    """Groups without spread since the last one with spread, when there were `before` of them before these.

    spread flat flat, before 7 -> 2;  flat flat, before 7 -> 9
    """
    count = before
    for group in groups:
        count = 0 if has_spread(group) else count + 1
    return count


def require_signal(flat_in_a_row: int, groups: Sequence[Group], limit: int) -> None:
    """Raises NoLearningSignalError once `limit` groups in a row were flat (0: never); says what their rewards were."""
    if limit <= 0 or flat_in_a_row < limit:
        return
    trained = [member.reward.value for group in groups for member in group.members if member.reward.train]
    masked = sum(not member.reward.train for group in groups for member in group.members)
    lost = sum(len(group.lost) for group in groups)
    rewards = f"rewards {min(trained):g} to {max(trained):g}, mean {sum(trained) / len(trained):.3g}" if trained else "no reward"
    raise NoLearningSignalError(
        f"no learning signal: the last {flat_in_a_row} groups (grpo.max_flat_groups={limit}) had equal rewards; in the last "
        f"{len(groups)}: {rewards}, {masked} episodes masked, {lost} lost; play tasks of another difficulty or larger groups"
    )
