"""Groups that teach nothing: all rewards equal, so every advantage is 0."""

from collections.abc import Sequence

from verifier.reward import Group

POLICIES = ("keep", "drop")


def has_spread(group: Group) -> bool:
    """Whether the rewards of the members that train are not all equal."""
    return len({member.reward.value for member in group.members if member.reward.train}) > 1


def filter_groups(groups: Sequence[Group], zero_spread: str) -> list[Group]:
    """`keep`: all groups (those without spread have no gradient but count in the mean, as in SWE-Master); `drop`: only those
    with spread, so that the mean is over trajectories that teach something."""
    if zero_spread not in POLICIES:
        raise ValueError(f"unknown policy {zero_spread!r} for groups without spread; one of {', '.join(POLICIES)}")
    return list(groups) if zero_spread == "keep" else [group for group in groups if has_spread(group)]
