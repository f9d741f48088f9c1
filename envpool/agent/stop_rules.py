"""Which limit ends an episode, as pure functions of what was played."""

import itertools
from collections.abc import Iterable, Sequence

from configs.rollout_config import EpisodeConfig
from envpool.agent.garbled_text import garbled_signs
from envpool.trajectory import StopReason, Turn


def used_up(config: EpisodeConfig, tokens: int, shown: int, time_left_s: float) -> StopReason | None:
    """The budget that leaves no room for another turn, after `tokens` of the episode with `shown` of them in the context."""
    if tokens >= config.max_tokens:
        return StopReason.MAX_TOKENS
    if shown >= config.context_tokens:
        return StopReason.CONTEXT_FULL
    return StopReason.DEADLINE if time_left_s <= 0 else None


def stop_in_completion(config: EpisodeConfig, earlier: Sequence[Turn], text: str, has_call: bool) -> StopReason | None:
    """Whether a completion alone ends the episode; its call is then not made."""
    if config.garbled.stop and garbled_signs(text, config.garbled):
        return StopReason.GARBLED
    if config.max_missing_calls and not has_call:
        missing = 1 + trailing(turn.action == "" for turn in reversed(earlier))
        return StopReason.NO_CALL if missing >= config.max_missing_calls else None
    return None


def stop_after(config: EpisodeConfig, turns: Sequence[Turn], done: bool, tokens: int) -> StopReason | None:
    """Whether what came of the last of `turns` ends the episode; `done`: it was submit. `tokens`: with its completion."""
    if done:
        if tokens >= config.max_tokens:
            return StopReason.SUBMITTED_LAST_TOKENS
        if len(turns) > config.max_turns:
            return StopReason.SUBMITTED_LATE
        return StopReason.SUBMITTED_LAST_TURN if len(turns) == config.max_turns else StopReason.SUBMITTED
    if config.max_command_timeouts:
        timeouts = trailing(turn.tool_s >= config.tool_timeout_s for turn in reversed(turns))
        return StopReason.COMMAND_TIMEOUTS if timeouts >= config.max_command_timeouts else None
    return None


def trailing(flags: Iterable[bool]) -> int:
    """How many come before the first False.

    >>> trailing([True, True, False, True])
    2
    """
    return sum(1 for _ in itertools.takewhile(bool, flags))
