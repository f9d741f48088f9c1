"""Reward tables against the published rules."""

from pathlib import Path

import pytest

from configs.objective_check import ALPHA_ROWS
from configs.stage_loading import load_config
from configs.verifier_config import RewardRuleConfig, VerifierConfig
from envpool.trajectory import StopReason
from tests.trainers.training_doubles import make_group, make_trajectory
from verifier.reward import Group, LostEpisode, Reward, ScoredTrajectory
from verifier.rewards import REWARDS, RewardRule, compute_reward, reshaped, reward_table

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
    penalised = (table, stop_reason) == ("swe_world", StopReason.GARBLED)
    assert compute_reward(REWARDS[table], stop_reason, False, 0.5).value == (-0.5 if penalised else 0.0)


PUBLISHED = {
    # reason: (reward of a right work tree, trains) under SWE-Master, DeepSWE, SWE-World
    "submitted": ((1.0, True), (1.0, True), (1.0, True)),
    "submitted_last_turn": ((1.0, True), (1.0, True), (1.0, True)),
    "submitted_late": ((1.0, True), (1.0, True), (1.0, True)),
    "submitted_last_tokens": ((0.5, True), (0.0, False), (0.0, True)),
    "max_turns": ((0.5, True), (0.0, False), (0.0, True)),
    "max_tokens": ((0.5, True), (0.0, False), (0.0, True)),
    "context_full": ((0.5, True), (0.0, False), (0.0, True)),
    "deadline": ((0.5, True), (0.0, False), (0.0, True)),
    "command_timeouts": ((1.0, True), (0.0, False), (0.0, True)),
    "no_call": ((0.5, True), (0.0, False), (0.0, True)),
    "garbled": ((0.5, True), (0.0, False), (-0.5, True)),
    "prompt_too_long": ((0.0, False), (0.0, False), (0.0, False)),
    "encode_error": ((0.0, False), (0.0, False), (0.0, False)),
}


def test_the_published_tables_row_by_row() -> None:
    computed = {}
    for reason in StopReason:
        rewards = [compute_reward(REWARDS[table], reason, True, 0.5) for table in ("swe_master", "deepswe", "swe_world")]
        computed[reason.value] = tuple((reward.value, reward.train) for reward in rewards)
    assert computed == PUBLISHED


def test_the_rows_worth_alpha_are_those_the_configuration_check_knows() -> None:
    assert {reason.value for reason, rule in REWARDS["swe_master"].items() if rule.factor == "alpha"} == ALPHA_ROWS


def test_the_parts_say_what_a_reward_is_made_of() -> None:
    assert compute_reward(REWARDS["swe_master"], StopReason.DEADLINE, True, 0.25).parts == {"outcome": 1.0, "factor": 0.25}


YAML = Path(__file__).parents[2] / "configs" / "yaml"


@pytest.mark.parametrize("table", ["swe_master", "deepswe", "swe_world"])
def test_each_published_rule_is_a_configuration_that_spells_its_rows(table: str) -> None:
    config = load_config(YAML / f"reward_{table}.yaml", []).verifier
    assert set(config.reward_rules) == {reason.value for reason in StopReason}
    assert reward_table(config) == REWARDS[table]
    from_rows_alone = VerifierConfig(reward="outcome", reward_rules=config.reward_rules)
    for reason in StopReason:
        ours, theirs = (compute_reward(rows, reason, True, 0.5) for rows in (reward_table(from_rows_alone), REWARDS[table]))
        assert (ours.value, ours.train) == (theirs.value, theirs.train)


def test_one_row_can_be_replaced() -> None:
    rows = {"max_tokens": RewardRuleConfig(graded=False, train=False), "deadline": RewardRuleConfig(factor=0.25)}
    table = reward_table(VerifierConfig(reward_rules=rows))
    assert table[StopReason.MAX_TOKENS] == RewardRule(graded=False, factor=1.0, train=False)
    assert compute_reward(table, StopReason.DEADLINE, True, 0.5).value == 0.25
    assert table[StopReason.MAX_TURNS] == REWARDS["swe_master"][StopReason.MAX_TURNS]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (VerifierConfig(reward="best"), "no such table"),
        (VerifierConfig(reward_rules={"crashed": RewardRuleConfig()}), "no such stop reason"),
        (VerifierConfig(reward_rules={"deadline": RewardRuleConfig(factor="half")}), "a number or alpha"),
    ],
)
def test_mistakes_are_named(config: VerifierConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reward_table(config)


def test_a_group_is_shaped_again_under_another_alpha() -> None:
    trajectories = [make_trajectory([], 0), make_trajectory([], 1, StopReason.MAX_TURNS), make_trajectory([], 2)]
    members = tuple(
        ScoredTrajectory(trajectory, Reward(9.0, {}, True), resolved, "log")
        for trajectory, resolved in zip(trajectories, (True, True, False), strict=True)
    )
    group = Group("task", members, (LostEpisode(3, "sandbox died"),))
    shaped = reshaped(group, REWARDS["swe_master"], 0.25)
    assert [member.reward.value for member in shaped.members] == [1.0, 0.25, 0.0]
    assert shaped.lost == group.lost
    assert [member.reward.train for member in reshaped(group, REWARDS["deepswe"], 0.25).members] == [True, False, True]
    assert reshaped(make_group([]), REWARDS["deepswe"], 0.5) == make_group([])


def test_how_a_simulated_verdict_came_about_survives_another_alpha() -> None:
    trajectory = make_trajectory([], 0, StopReason.MAX_TURNS)
    member = ScoredTrajectory(trajectory, Reward(0.5, {"outcome": 1.0, "factor": 0.5, "probability": 0.9}, True), True, "")
    (shaped,) = reshaped(Group("task", (member,), ()), REWARDS["swe_master"], 0.25).members
    assert shaped.reward.parts == {"outcome": 1.0, "factor": 0.25, "probability": 0.9}
