"""Reward tables against the published rules."""

import pytest

from envpool.trajectory import StopReason
from verifier.rewards import REWARDS, compute_reward

CUT_SHORT = (StopReason.MAX_TURNS, StopReason.MAX_TOKENS, StopReason.DEADLINE)


@pytest.mark.parametrize("stop_reason", CUT_SHORT)
@pytest.mark.parametrize(
    ("table", "value", "train"),
    [("swe_master", 0.5, True), ("deepswe", 0.0, False), ("swe_world", 0.0, True), ("outcome", 1.0, True)],
)
def test_a_correct_work_tree_that_was_not_submitted(table: str, stop_reason: StopReason, value: float, train: bool) -> None:
    reward = compute_reward(REWARDS[table], stop_reason, True, 0.5)
    assert (reward.value, reward.train) == (value, train)


@pytest.mark.parametrize("table", sorted(REWARDS))
def test_a_submitted_patch_is_worth_its_outcome(table: str) -> None:
    assert [compute_reward(REWARDS[table], StopReason.SUBMITTED, resolved, 0.5).value for resolved in (True, False)] == [1.0, 0.0]


@pytest.mark.parametrize("table", sorted(REWARDS))
@pytest.mark.parametrize("stop_reason", list(StopReason))
def test_a_wrong_patch_is_worth_nothing_and_every_reason_has_a_rule(table: str, stop_reason: StopReason) -> None:
    assert compute_reward(REWARDS[table], stop_reason, False, 0.5).value == 0.0


def test_the_parts_say_what_a_reward_is_made_of() -> None:
    assert compute_reward(REWARDS["swe_master"], StopReason.DEADLINE, True, 0.25).parts == {"outcome": 1.0, "factor": 0.25}
