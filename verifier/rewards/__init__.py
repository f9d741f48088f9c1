"""Reward tables as data: for each reason an episode may end, whether its outcome counts, how much, and whether it trains.

To add one: write a dict of four `RewardRule`s here and name it in `REWARDS`. Infrastructure failures have no row: such an
episode is a `LostEpisode`, in neither loss nor baseline.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from envpool.trajectory import StopReason
from verifier.reward import Reward


@dataclass(frozen=True)
class RewardRule:
    """`graded`: the hidden tests decide (else the reward is 0). `factor`: what a resolved issue is worth, `alpha` stands for
    the run's `truncated_factor`. `train`: False masks the loss of the whole trajectory."""

    graded: bool
    factor: float | Literal["alpha"]
    train: bool


RewardTable = Mapping[StopReason, RewardRule]

FULL = RewardRule(graded=True, factor=1.0, train=True)
HALF = RewardRule(graded=True, factor="alpha", train=True)
ZERO = RewardRule(graded=False, factor=0.0, train=True)
MASKED = RewardRule(graded=False, factor=0.0, train=False)
CUT_SHORT = (StopReason.MAX_TURNS, StopReason.MAX_TOKENS, StopReason.DEADLINE)

REWARDS: dict[str, RewardTable] = {
    # SWE-Master (arXiv 2602.03411, eq. 4-5): a correct work tree that was not submitted earns alpha
    "swe_master": {StopReason.SUBMITTED: FULL, **dict.fromkeys(CUT_SHORT, HALF)},
    # DeepSWE's overlong filter: episodes that were cut short do not train
    "deepswe": {StopReason.SUBMITTED: FULL, **dict.fromkeys(CUT_SHORT, MASKED)},
    # SWE-World: cut short is worth nothing and trains
    "swe_world": {StopReason.SUBMITTED: FULL, **dict.fromkeys(CUT_SHORT, ZERO)},
    # the bare outcome, however the episode ended
    "outcome": dict.fromkeys(StopReason, FULL),
}


def compute_reward(table: RewardTable, stop_reason: StopReason, resolved: bool, truncated_factor: float) -> Reward:
    """The reward of one trajectory; `parts` holds the outcome (0 or 1) and the factor it was multiplied with.

    >>> compute_reward(REWARDS["swe_master"], StopReason.MAX_TURNS, True, 0.5).value
    0.5
    """
    rule = table[stop_reason]
    factor = truncated_factor if rule.factor == "alpha" else rule.factor
    outcome = float(resolved)
    return Reward(value=outcome * factor if rule.graded else 0.0, parts={"outcome": outcome, "factor": factor}, train=rule.train)
