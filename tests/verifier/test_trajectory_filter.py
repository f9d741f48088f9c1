"""Format filters and the mixed-results filter."""

import numpy as np

from envpool.patch import Patch
from envpool.trajectory import StopReason, Trajectory, Turn
from verifier.deployable_context import DeployableContext
from verifier.reward import Group, LostEpisode, Reward, ScoredTrajectory
from verifier.score_columns import SCORE_COLUMNS, score_columns, scored_from_columns
from verifier.trajectory_filter import MixedCounts, filter_trajectories, format_filters, mixed_groups, within_turns


def scored(
    resolved: bool = True, stop: StopReason = StopReason.SUBMITTED, actions: tuple[str, ...] = ("call", "submit"), tokens: int = 3
) -> ScoredTrajectory:
    ids = np.arange(tokens, dtype=np.int32)
    turns = tuple(Turn(ids, ids, ids.astype(np.float32), ids, "", action, "", 0.0, 0.0) for action in actions)
    trajectory = Trajectory("a", 0, "p", "", turns, Patch("diff"), stop, 1.0)
    context = DeployableContext("issue", "diff", {"m.py": "x\n"}, {})
    return ScoredTrajectory(trajectory, Reward(float(resolved), {"outcome": float(resolved)}, True), resolved, "log", context)


def test_each_filter_drops_its_own_kind() -> None:
    bad = [scored(resolved=False), scored(stop=StopReason.MAX_TURNS), scored(actions=("call", "", "submit")), scored(tokens=100)]
    kept, counts = filter_trajectories([scored(), *bad, scored()], format_filters(max_tokens=12))
    assert len(kept) == counts.num_kept == 2
    assert counts.num_seen == 6
    assert counts.dropped == {"resolved": 1, "submitted": 1, "no_missed_calls": 1, "within_tokens": 1}
    assert filter_trajectories([scored()], [within_turns(1)])[1].dropped == {"within_turns": 1}


def test_the_first_filter_that_fails_is_counted() -> None:
    _, counts = filter_trajectories([scored(resolved=False, tokens=100)], format_filters(max_tokens=12))
    assert counts.dropped == {"resolved": 1, "submitted": 0, "no_missed_calls": 0, "within_tokens": 0}


def test_only_tasks_with_mixed_results_stay_and_parts_of_a_task_count_together() -> None:
    won, lost = scored(True), scored(False)
    groups = [
        Group("mixed", (won, lost), ()),
        Group("pass", (won, won), (LostEpisode(2, "x"),)),
        Group("fail", (lost,), ()),
        Group("none", (), (LostEpisode(0, "x"),)),
        Group("split", (won,), ()),
        Group("split", (lost,), ()),
    ]
    kept, counts = mixed_groups(groups)
    assert [group.instance_id for group in kept] == ["mixed", "split", "split"]
    assert counts == MixedCounts(all_fail=1, mixed=2, all_pass=1, empty=1)


def test_scores_survive_a_trip_through_columns() -> None:
    one = scored()
    columns = score_columns(one)
    assert {name: type(value) for name, value in columns.items()} == SCORE_COLUMNS
    assert scored_from_columns(one.trajectory, columns) == one
