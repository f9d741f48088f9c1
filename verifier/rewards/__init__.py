"""Reward tables as data: for each reason an episode may end, whether its outcome counts, how much, and whether it trains.

To add one: write a dict with a `RewardRule` per stop reason here and name it in `REWARDS`; a run may replace single rows
(verifier.reward_rules). Infrastructure failures have no row: such an episode is played again, and when that fails too it is a
`LostEpisode`, in neither loss nor baseline, and counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from configs.verifier_config import VerifierConfig
from envpool.trajectory import StopReason
from verifier.reward import Group, Reward, ScoredTrajectory


@dataclass(frozen=True)
class RewardRule:
    """`graded`: the hidden tests decide (else the reward is `value`). `factor`: what a resolved issue is worth, `alpha` stands
    for the run's `truncated_factor`. `train`: False masks the loss of the whole trajectory and leaves it out of the baseline."""

    graded: bool
    factor: float | Literal["alpha"]
    train: bool
    value: float = 0.0


RewardTable = Mapping[StopReason, RewardRule]

FULL = RewardRule(graded=True, factor=1.0, train=True)
HALF = RewardRule(graded=True, factor="alpha", train=True)
ZERO = RewardRule(graded=False, factor=0.0, train=True)
MASKED = RewardRule(graded=False, factor=0.0, train=False)
PENALTY = RewardRule(graded=False, factor=0.0, train=True, value=-0.5)

SUBMITTED = (StopReason.SUBMITTED, StopReason.SUBMITTED_LAST_TURN, StopReason.SUBMITTED_LATE)
CUT_SHORT = (
    StopReason.SUBMITTED_LAST_TOKENS,  # the original looks at the token limit before it looks for a submit
    StopReason.MAX_TURNS,
    StopReason.MAX_TOKENS,
    StopReason.CONTEXT_FULL,
    StopReason.DEADLINE,
    StopReason.NO_CALL,
)
UNPLAYED = (StopReason.PROMPT_TOO_LONG, StopReason.ENCODE_ERROR)
"""The agent can do nothing about these."""

REWARDS: dict[str, RewardTable] = {
    # SWE-Master (arXiv 2602.03411, eq. 4-5): a correct work tree that was not submitted earns alpha; one whose commands timed
    # out earns all, as in its code. Garbled output is ours here: like any other cut.
    "swe_master": {
        **dict.fromkeys((*SUBMITTED, StopReason.COMMAND_TIMEOUTS), FULL),
        **dict.fromkeys((*CUT_SHORT, StopReason.GARBLED), HALF),
        **dict.fromkeys(UNPLAYED, MASKED),
    },
    # DeepSWE's overlong filter: episodes that were cut short do not train
    "deepswe": {
        **dict.fromkeys(SUBMITTED, FULL),
        **dict.fromkeys((*CUT_SHORT, StopReason.COMMAND_TIMEOUTS, StopReason.GARBLED, *UNPLAYED), MASKED),
    },
    # SWE-World: cut short is worth nothing and trains, garbled output costs
    "swe_world": {
        **dict.fromkeys(SUBMITTED, FULL),
        **dict.fromkeys((*CUT_SHORT, StopReason.COMMAND_TIMEOUTS), ZERO),
        StopReason.GARBLED: PENALTY,
        **dict.fromkeys(UNPLAYED, MASKED),
    },
    # the bare outcome, however the episode ended
    "outcome": dict.fromkeys(StopReason, FULL),
}


def reward_table(config: VerifierConfig) -> RewardTable:
    """The configured table with its replaced rows. Raises ValueError that names an unknown table, stop reason or factor."""
    if config.reward not in REWARDS:
        raise ValueError(f"verifier.reward={config.reward}: no such table; one of {', '.join(REWARDS)}")
    table = dict(REWARDS[config.reward])
    for name, row in config.reward_rules.items():
        if name not in {reason.value for reason in StopReason}:
            known = ", ".join(reason.value for reason in StopReason)
            raise ValueError(f"verifier.reward_rules.{name}: no such stop reason; one of {known}")
        table[StopReason(name)] = RewardRule(row.graded, _factor(name, row.factor), row.train, row.value)
    return table


def _factor(name: str, factor: float | str) -> float | Literal["alpha"]:
    if factor == "alpha":
        return "alpha"
    try:
        return float(factor)
    except ValueError as error:
        raise ValueError(f"verifier.reward_rules.{name}.factor={factor}: give a number or alpha") from error


def compute_reward(table: RewardTable, stop_reason: StopReason, resolved: bool, truncated_factor: float) -> Reward:
    """The reward of one trajectory; `parts` holds the outcome (0 or 1) and the factor it was multiplied with.

    >>> compute_reward(REWARDS["swe_master"], StopReason.MAX_TURNS, True, 0.5).value
    0.5
    """
    rule = table[stop_reason]
    factor = truncated_factor if rule.factor == "alpha" else rule.factor
    outcome = float(resolved)
    return Reward(
        value=outcome * factor if rule.graded else rule.value, parts={"outcome": outcome, "factor": factor}, train=rule.train
    )


def reshaped(group: Group, table: RewardTable, truncated_factor: float) -> Group:
    """The group with its rewards computed again under this alpha; lost members and other parts of a reward stay.

    A resolved member that was cut short, alpha 0.5 -> 0.25: reward 0.5 -> 0.25.
    """

    def again(member: ScoredTrajectory) -> ScoredTrajectory:
        reward = compute_reward(table, member.trajectory.stop_reason, member.resolved, truncated_factor)
        return replace(member, reward=replace(reward, parts={**member.reward.parts, **reward.parts}))

    return replace(group, members=tuple(map(again, group.members)))
