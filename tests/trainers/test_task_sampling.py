"""Which tasks a step plays, and how that and alpha depend on the steps before it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.outcome_log import OutcomeLog, OutcomeLogError, group_outcome
from configs.grpo_config import GRPOConfig
from configs.verifier_config import VerifierConfig
from envpool.trajectory import StopReason
from tests.trainers.training_doubles import make_group, make_trajectory
from trainers.step_plan import StepPlan
from trainers.task_sampling import (
    GroupOutcome,
    banded_tasks,
    replacement_tasks,
    shuffled_tasks,
    solve_rates,
    tasks_in_band,
)
from verifier.reward import Group, LostEpisode, Reward, ScoredTrajectory
from verifier.rewards import REWARDS

NAMES = [f"t{index}" for index in range(6)]
TABLE = REWARDS["swe_master"]


@given(st.integers(1, 9), st.integers(0, 5))
def test_an_epoch_plays_every_task_once(groups_per_step: int, seed: int) -> None:
    played = [name for step in range(6) for name in shuffled_tasks(NAMES, groups_per_step, seed, step)]
    for start in range(0, len(played) - 5, 6):
        assert sorted(played[start : start + 6]) == NAMES


def test_replacements_are_other_tasks() -> None:
    first = replacement_tasks(NAMES, {"t0", "t1"}, 3, 0, 5, 0)
    assert len(set(first)) == 3
    assert not set(first) & {"t0", "t1"}
    assert first == replacement_tasks(NAMES[::-1], {"t1", "t0"}, 3, 0, 5, 0)
    assert len(replacement_tasks(NAMES, NAMES[1:], 3, 0, 5, 0)) == 1


def test_solve_rates_and_band() -> None:
    outcomes = [
        GroupOutcome(0, "solved", 4, 4, ()),
        GroupOutcome(1, "solved", 4, 4, ()),
        GroupOutcome(0, "mixed", 8, 4, ()),
        GroupOutcome(0, "hopeless", 8, 0, ()),
        GroupOutcome(0, "young", 4, 0, ()),
    ]
    rates = solve_rates(outcomes, 8)
    assert rates == {"solved": 1.0, "mixed": 0.5, "hopeless": 0.0}
    names = ["solved", "mixed", "hopeless", "young", "new"]
    assert tasks_in_band(names, rates, (0.1, 0.9)) == ["mixed", "young", "new"]
    assert tasks_in_band(names, rates, (0.0, 1.0)) == names
    assert tasks_in_band(["solved"], rates, (0.1, 0.9)) == ["solved"]  # better than nothing to play


def test_tasks_out_of_the_band_are_replaced_in_their_place() -> None:
    planned = banded_tasks(["a", "b", "c"], ["b", "d", "e"], 0, 0)
    assert planned[1] == "b"
    assert {planned[0], planned[2]} == {"d", "e"}
    assert banded_tasks(["a", "b"], ["b"], 0, 0) == ["b", "b"]


def plan(outcomes: list[GroupOutcome], grpo: GRPOConfig, verifier: VerifierConfig | None = None) -> StepPlan:
    def before(step: int) -> list[GroupOutcome]:
        return [outcome for outcome in outcomes if outcome.step < step]

    return StepPlan(grpo, verifier or VerifierConfig(), NAMES, 0, before)


def test_a_plan_looks_only_at_steps_that_are_surely_trained() -> None:
    """At staleness 2, step 3 may start when step 0 is trained: it must not depend on steps 1 and 2."""
    hopeless = [GroupOutcome(step, name, 8, 0, ()) for step, name in enumerate(NAMES[:3])]
    config = GRPOConfig(groups_per_step=6, solve_rate_band=(0.1, 0.9), max_staleness=2)
    assert set(plan(hopeless, config).tasks(3)) == set(NAMES) - {"t0"}
    assert set(plan(hopeless, config).tasks(5)) == set(NAMES) - {"t0", "t1", "t2"}
    assert plan(hopeless, config).tasks(3) == plan(hopeless[:1], config).tasks(3)
    assert set(plan(hopeless, GRPOConfig(groups_per_step=6)).tasks(5)) == set(NAMES)


def test_alpha_of_a_plan_is_measured_before_the_step() -> None:
    outcomes = [GroupOutcome(0, "t0", 2, 2, (True, False)), GroupOutcome(1, "t1", 2, 2, (True, True))]
    verifier = VerifierConfig(truncated_schedule="measured_share", truncated_window=2, truncated_factor_end=1.0)
    steps = plan(outcomes, GRPOConfig(), verifier)
    assert [steps.alpha(step) for step in range(3)] == [0.5, 0.5, 1.0]


def ended_so(ends: list[tuple[StopReason, bool]]) -> Group:
    """A member per ending, and a lost one."""
    members = tuple(
        ScoredTrajectory(make_trajectory([], index, stop), Reward(0.0, {}, True), resolved, "")
        for index, (stop, resolved) in enumerate(ends)
    )
    return Group("t0", members, (LostEpisode(len(ends), "sandbox died"),))


def truncated_group() -> Group:
    """Submitted and right; cut short and right; cut short and wrong; lost."""
    return ended_so([(StopReason.SUBMITTED, True), (StopReason.MAX_TURNS, True), (StopReason.DEADLINE, False)])


def test_a_plan_shapes_rewards_with_its_alpha() -> None:
    verifier = VerifierConfig(truncated_schedule="linear", truncated_factor_end=0.0, truncated_steps=2)
    steps = plan([], GRPOConfig(), verifier)
    assert [[m.reward.value for m in steps.shape(step, [truncated_group()])[0].members] for step in range(3)] == [
        [1, 0.5, 0], [1, 0.25, 0], [1, 0, 0],
    ]  # fmt: skip


def test_the_outcomes_of_a_group() -> None:
    assert group_outcome(4, truncated_group(), TABLE) == GroupOutcome(4, "t0", 3, 2, (True, False))


def test_truncated_are_the_rows_that_earn_alpha() -> None:
    """Submitting with the last tokens does, three commands that timed out do not; DeepSWE's table has no such row."""
    ends = (StopReason.SUBMITTED_LAST_TOKENS, StopReason.COMMAND_TIMEOUTS, StopReason.PROMPT_TOO_LONG, StopReason.DEADLINE)
    group = ended_so([(stop, True) for stop in ends])
    assert group_outcome(0, group, TABLE).truncated == (True, True)
    assert group_outcome(0, group, REWARDS["deepswe"]).truncated == ()


def test_a_resumed_log_forgets_the_steps_after_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    log = OutcomeLog(path, 0, TABLE)
    for step in range(3):
        log.add(step, [make_group([1, 0], task=f"t{step}")])
    assert [outcome.step for outcome in log.before(2)] == [0, 1]
    with path.open("ab") as file:
        file.write(b'{"step": 3, "inst')  # killed while writing
    resumed = OutcomeLog(path, 2, TABLE)
    assert resumed.before(99) == log.before(2)
    resumed.add(2, [make_group([1, 1], task="again")])
    assert [outcome.instance_id for outcome in OutcomeLog(path, 9, TABLE).before(9)] == ["t0", "t1", "again"]


def test_a_damaged_log_is_named(tmp_path: Path) -> None:
    (tmp_path / "outcomes.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(OutcomeLogError, match=r"outcomes.jsonl: line 1"):
        OutcomeLog(tmp_path / "outcomes.jsonl", 5, TABLE)
