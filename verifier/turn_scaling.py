"""Sequential scaling: how many tasks are solved when an episode may take so many turns at most.

Computed from finished episodes. One that ended within the budget counts with its real outcome. One that went on beyond it would
have been cut there, and its work tree at that turn was never graded: it counts as unsolved. So each value but the last is a lower
bound of a run with that limit (which grades the tree as it is), and the last, at the limit of the run itself, is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verifier.estimates import Floats


@dataclass(frozen=True)
class Attempt:
    """One finished episode."""

    num_turns: int
    resolved: bool


def solved_within(tasks: Sequence[Sequence[Attempt]], max_turns: int) -> Floats:
    """pass@1 of every task with at least one attempt, shape (tasks,), with `max_turns` turns at most.

    >>> solved_within([[Attempt(3, True), Attempt(9, True)]], 5).tolist()
    [0.5]
    """
    return np.array(
        [np.mean([one.resolved and one.num_turns <= max_turns for one in attempts]) for attempts in tasks if attempts], np.float64
    )


def mean_turns_within(tasks: Sequence[Sequence[Attempt]], max_turns: int) -> float:
    """Mean turns that the episodes take with the limit; 0.0 without any.

    >>> mean_turns_within([[Attempt(3, True), Attempt(9, True)]], 5)
    4.0
    """
    turns = [min(one.num_turns, max_turns) for attempts in tasks for one in attempts]
    return sum(turns) / len(turns) if turns else 0.0


def default_budgets(max_turns: int) -> tuple[int, ...]:
    """Six even steps up to the limit, as SWE-Master's curve has (25, 50, ..., 150).

    >>> default_budgets(150), default_budgets(4)
    ((25, 50, 75, 100, 125, 150), (1, 2, 3, 4))
    """
    return tuple(dict.fromkeys(max(1, round(max_turns * step / 6)) for step in range(1, 7)))
