"""Simulated rewards with audits, on a small repository whose hidden tests really run when a patch is audited."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from envpool.action_format import ToolCall, render_action
from envpool.patch import Patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.preparation import Preparation
from envpool.trajectory import StopReason, Trajectory, Turn
from tests.verifier.small_repo import BUGGY, FILES, GOLD, TASK, file_diff, process_pool
from verifier.audit import AuditRule, AuditState
from verifier.calibration import Identity, ScaledLogOdds
from verifier.curator_context import CuratorContext
from verifier.deployable_context import DeployableContext
from verifier.grade_cache import GradeCache
from verifier.hybrid_grading import HybridGrader
from verifier.reward_record import RewardRecord
from verifier.scorer_prompt import ScorerContext
from verifier.simulated_scoring import Vote


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[SandboxPool]:
    pool = process_pool(tmp_path, {"calc": FILES}, num_sandboxes=2)
    yield pool
    await pool.close()


class Scorer:
    """Gives these votes and keeps what it was shown."""

    def __init__(self, *votes: Vote | None) -> None:
        self.votes = votes
        self.shown: list[ScorerContext] = []
        self.seeds: list[int] = []

    async def __call__(self, context: ScorerContext, seed: int) -> tuple[Vote | None, ...]:
        self.shown.append(context)
        self.seeds.append(seed)
        return self.votes


def grader(pool: SandboxPool, scorer: Scorer, share: float, context: str = "deployable", threshold: float = 4.0) -> HybridGrader:
    rule = AuditRule(share, threshold=threshold)
    return HybridGrader(scorer, Identity(), pool, rule, context, 30.0, True, 0, GradeCache(), RewardRecord(AuditState(share)))


def episode(diff: str, sample: int = 0) -> Trajectory:
    none = np.zeros(0, np.int32)
    action = render_action(ToolCall("execute_bash", {"command": "python3 test_calc.py"}))
    turn = Turn(none, none, none.astype(np.float32), none, action, action, "passed", 0.0, 0.0)
    return Trajectory("calc-1", sample, "p", "", (turn,), Patch(diff), StopReason.SUBMITTED, 1.0)


async def test_an_unaudited_patch_is_worth_what_the_model_says(pool: SandboxPool) -> None:
    scorer = Scorer(Vote(1, 0.9), None, Vote(0, 0.4))
    judge = grader(pool, scorer, share=1e-9)
    graded = await judge(TASK, episode(GOLD))
    assert (graded.report.resolved, graded.report.applied, graded.report.grader) == (True, False, "swr/deployable")
    assert graded.parts == {"probability": pytest.approx(0.65), "audited": 0.0}
    (shown,) = scorer.shown
    assert isinstance(shown, DeployableContext)
    assert (shown.observed, "a + b" in shown.files["calc.py"]) == ("passed", True)
    assert (judge.record.cost.simulated, judge.record.cost.unreadable_reports, judge.record.cost.audited) == (1, 1, 0)


async def test_an_audited_patch_is_worth_what_its_tests_say(pool: SandboxPool) -> None:
    judge = grader(pool, Scorer(Vote(1, 0.95)), share=1.0)
    wrong = file_diff("calc.py", BUGGY, BUGGY.replace("a - b", "a * b"))
    graded = await judge(TASK, episode(wrong))
    assert (graded.report.resolved, graded.report.applied) == (False, True)
    assert graded.parts == {"probability": pytest.approx(0.95), "audited": 1.0}
    assert graded.context is not None
    assert judge.record.state.mean_residual == pytest.approx(-0.95)
    assert judge.record.cost.audited_s > 0
    assert judge.figures()["reward_audited"] == 1


async def test_a_scorer_that_likes_everything_is_caught_and_audited_more(pool: SandboxPool) -> None:
    judge = grader(pool, Scorer(Vote(1, 0.95)), share=0.5, threshold=1.5)
    for index in range(24):
        wrong = file_diff("calc.py", BUGGY, BUGGY.replace("a - b", f"a * b + {index}"))
        await judge(TASK, episode(wrong, index))
    assert judge.record.state.num_alarms >= 1
    assert judge.record.state.share == 1.0
    noticed_after = judge.rule.audits_until_noticed(0.95)
    assert noticed_after == 2


async def test_the_curators_context_is_built_from_the_oracle(pool: SandboxPool) -> None:
    scorer = Scorer(Vote(0, 0.2))
    graded = await grader(pool, scorer, share=1e-9, context="curator")(TASK, episode(GOLD))
    (shown,) = scorer.shown
    assert isinstance(shown, CuratorContext)
    assert shown.gold_patch == GOLD
    assert graded.report.grader == "swr/curator"
    assert isinstance(graded.context, DeployableContext)  # what is kept never holds the oracle


async def test_an_empty_patch_costs_nothing(pool: SandboxPool) -> None:
    scorer = Scorer(None, None)
    assert not (await grader(pool, scorer, share=1.0)(TASK, episode(""))).report.resolved
    assert scorer.shown == []


async def test_a_patch_whose_reports_cannot_be_read_is_asked_about_with_other_seeds_and_then_really_tested(
    pool: SandboxPool,
) -> None:
    scorer = Scorer(None, None)
    judge = grader(pool, scorer, share=1e-9)
    graded = await judge(TASK, episode(GOLD))
    assert (graded.report.resolved, graded.report.applied, graded.parts) == (True, True, {"audited": 1.0})
    assert scorer.seeds == [0, 2, 4]  # two reports each time: no seed twice
    cost, state = judge.record.cost, judge.record.state
    assert (cost.simulated, cost.unreadable_patches, cost.unreadable_reports, cost.audited) == (1, 1, 6, 1)
    assert state.num_audited == 0  # there is no probability to compare


async def test_the_first_report_that_can_be_read_ends_the_asking(pool: SandboxPool) -> None:
    class SecondTry(Scorer):
        async def __call__(self, context: ScorerContext, seed: int) -> tuple[Vote | None, ...]:
            await super().__call__(context, seed)
            return (None,) if seed == 0 else (Vote(1, 0.8),)

    scorer = SecondTry()
    graded = await grader(pool, scorer, share=1e-9)(TASK, episode(GOLD))
    assert (scorer.seeds, graded.parts) == ([0, 1], {"probability": 0.8, "audited": 0.0})


async def test_equal_patches_are_one_observation_of_the_audits(pool: SandboxPool) -> None:
    judge = grader(pool, Scorer(Vote(1, 0.9)), share=1.0)
    wrong = file_diff("calc.py", BUGGY, BUGGY.replace("a - b", "a * b"))
    for index in range(8):
        assert not (await judge(TASK, episode(wrong, index))).report.resolved
    state = judge.record.state
    assert (state.num_audited, state.num_alarms, state.mean_residual) == (1, 0, pytest.approx(-0.9))
    assert judge.record.cost.audited == 8  # eight rewards came from real tests, by one run
    assert judge.cache.num_graded == 1


async def test_a_patch_that_does_not_apply_is_unresolved_without_a_call(pool: SandboxPool) -> None:
    scorer = Scorer(Vote(1, 0.9))
    graded = await grader(pool, scorer, share=1.0)(TASK, episode(file_diff("calc.py", "no such line\n", "x\n")))
    assert (graded.report.resolved, graded.report.notes, graded.context) == (False, ("the patch does not apply",), None)
    assert scorer.shown == []


async def test_the_model_sees_the_start_state_and_no_hidden_file(pool: SandboxPool) -> None:
    """SWE-smith's shape: the set-up makes the bug that the patch undoes, and a hidden test lies in the image."""
    scorer = Scorer(Vote(1, 0.9))
    task = replace(TASK, preparation=Preparation("sed -i 's/a \\* 2/a * 3/' calc.py", ("test_calc.py",)))
    undone = file_diff("calc.py", BUGGY.replace("a * 2", "a * 3"), BUGGY.replace("a - b", "b - a"))
    forged = file_diff("tests/hidden_test_calc.py", None, "1\n")
    await grader(pool, scorer, share=1e-9)(task, episode(undone + forged))
    (shown,) = scorer.shown
    assert isinstance(shown, DeployableContext)
    assert (shown.patch, shown.files["calc.py"]) == (undone + forged, BUGGY.replace("a - b", "b - a"))
    assert shown.tests == {}


async def test_a_patch_of_which_nothing_is_graded_is_unresolved_without_a_call(pool: SandboxPool) -> None:
    scorer = Scorer(Vote(1, 0.9))
    graded = await grader(pool, scorer, share=1.0)(TASK, episode(file_diff("conftest.py", None, "1\n")))
    assert (graded.report.resolved, scorer.shown) == (False, [])
    assert graded.context is not None


async def test_calibration_decides_at_one_half(pool: SandboxPool) -> None:
    judge = replace(grader(pool, Scorer(Vote(1, 0.6)), share=1e-9), calibrate=ScaledLogOdds(1.0, -2.0))
    graded = await judge(TASK, episode(GOLD))
    assert not graded.report.resolved
    assert graded.parts["probability"] < 0.2
