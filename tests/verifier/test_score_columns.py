"""Scores as columns and back."""

from dataclasses import replace

import pytest

from envpool.patch import Patch
from envpool.trajectory import StopReason, Trajectory
from verifier.deployable_context import DeployableContext
from verifier.reward import Reward, ScoredTrajectory
from verifier.score_columns import LATER_COLUMNS, SCORE_COLUMNS, score_columns, scored_from_columns

TRAJECTORY = Trajectory("a", 0, "p", "", (), Patch(""), StopReason.SUBMITTED, 1.0)
CONTEXT = DeployableContext("it breaks", "diff", {"a.py": "1\n"}, {"test_a.py": "2\n"})
SCORED = ScoredTrajectory(
    TRAJECTORY,
    Reward(0.5, {"resolved": 1.0, "truncated": -0.5}, True),
    True,
    "log",
    CONTEXT,
    "grader/2 rule parser",
    ("x: junk",),
    statuses={"test_a (x.Y)": "passed", "test_b (x.Y)": "missing"},
)


@pytest.mark.parametrize("scored", [SCORED, replace(SCORED, context=None, grading_notes=())])
def test_scores_come_back(scored: ScoredTrajectory) -> None:
    columns = score_columns(scored)
    assert list(columns) == [*SCORE_COLUMNS, *LATER_COLUMNS]
    assert scored_from_columns(TRAJECTORY, columns) == scored


def test_files_of_earlier_versions_are_read() -> None:
    columns = {name: value for name, value in score_columns(SCORED).items() if name in SCORE_COLUMNS}
    assert scored_from_columns(TRAJECTORY, columns) == replace(SCORED, grader="", grading_notes=(), statuses={})


@pytest.mark.parametrize(
    ("change", "reason"), [({"reward_parts": "{"}, "unreadable scores"), ({"context": '{"x": 1}'}, "unreadable scores")]
)
def test_damaged_columns_are_named(change: dict[str, str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        scored_from_columns(TRAJECTORY, score_columns(SCORED) | change)
    with pytest.raises(ValueError, match="lacks the columns resolved"):
        scored_from_columns(TRAJECTORY, {name: value for name, value in score_columns(SCORED).items() if name != "resolved"})
