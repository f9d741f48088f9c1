"""What of its history the model is shown, as pure functions over numbers of turns.

To add one: a frozen dataclass that satisfies ContextPolicy and a line in CONTEXT_POLICIES. Turns here are those that act; the
summaries in between are not counted.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from configs.context_config import ContextConfig


@dataclass(frozen=True)
class View:
    """The first messages, then `summaries`, then the turns from `first` on; turns before `folded` without their outputs."""

    first: int = 0
    folded: int = 0
    summaries: tuple[str, ...] = ()


class ContextPolicy(Protocol):
    def __call__(self, view: View, num_turns: int) -> View:
        """The view to show after `num_turns` finished turns. A larger `first` asks for a summary of the turns in between;
        the view stays as it was when none can be had."""
        ...


@dataclass(frozen=True)
class FullHistory:
    """Everything, always."""

    def __call__(self, view: View, num_turns: int) -> View:
        return view


@dataclass(frozen=True)
class SummarisedHistory:
    """SWE-Master's context manager (arXiv 2602.03411, 6.5): after t turns there are floor((t - k) / m) summaries of m turns
    each, and between k and m + k - 1 turns are shown raw. m=10, k=5: the first summary at t=15, the second at t=25."""

    interval: int
    recent: int

    def __call__(self, view: View, num_turns: int) -> View:
        return replace(view, first=moved(view.first, num_turns, self.interval, self.recent))


@dataclass(frozen=True)
class FoldedHistory:
    """Outputs of old turns become one line; what the model said stays. Cheaper than a summary: nothing is sampled."""

    interval: int
    recent: int

    def __call__(self, view: View, num_turns: int) -> View:
        return replace(view, folded=moved(view.folded, num_turns, self.interval, self.recent))


CONTEXT_POLICIES: dict[str, Callable[[ContextConfig], ContextPolicy]] = {
    "full": lambda config: FullHistory(),
    "summary": lambda config: SummarisedHistory(config.interval, config.recent),
    "fold": lambda config: FoldedHistory(config.interval, config.recent),
}


def context_policy(config: ContextConfig) -> ContextPolicy:
    """The configured policy. Raises ValueError for an unknown name."""
    if config.policy not in CONTEXT_POLICIES:
        raise ValueError(f"no such context policy {config.policy!r}; known: {', '.join(CONTEXT_POLICIES)}")
    return CONTEXT_POLICIES[config.policy](config)


def moved(boundary: int, num_turns: int, interval: int, recent: int) -> int:
    """Where raw turns begin, moved on by `interval` once that leaves `recent` of them.

    >>> moved(0, 14, 10, 5), moved(0, 15, 10, 5), moved(10, 24, 10, 5), moved(10, 25, 10, 5)
    (0, 10, 10, 20)
    """
    return boundary + interval if num_turns - boundary >= interval + recent else boundary
