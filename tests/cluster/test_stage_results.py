"""What stages compute from groups, with literal values, and how groups are kept on disk."""

from pathlib import Path

import numpy as np
import orjson
import pytest

from cluster.episode_playing import task_seed
from cluster.group_store import GroupStore, read_groups
from cluster.report_figures import histogram
from cluster.run_folder import RunFolder
from cluster.run_report import percent, result_rows, write_report
from cluster.stages.eval_stage import gain_over, pass_at_table
from cluster.stages.rollout_stage import episode_counts
from cluster.stages.tts_stage import closed_share_interval
from configs.run_config import RunConfig
from envpool.patch import Patch
from envpool.trajectory import StopReason, Trajectory, Turn
from trainers.task_sampling import shuffled_tasks
from verifier.reward import Group, LostEpisode, Reward, ScoredTrajectory


def scored(instance_id: str, index: int, resolved: bool, text: str = "hi") -> ScoredTrajectory:
    ids = np.array([1, 2], np.int32)
    turn = Turn(ids, ids, np.array([-0.5, np.nan], np.float32), ids, text, "", "seen", 0.1, 0.2)
    trajectory = Trajectory(instance_id, index, "engine", "prompt", (turn,), Patch("diff"), StopReason.SUBMITTED, 1.5)
    return ScoredTrajectory(trajectory, Reward(float(resolved), {"outcome": float(resolved)}, True), resolved, "log")


def test_groups_come_back_as_they_went(tmp_path: Path) -> None:
    groups = [
        Group("a", (scored("a", 0, True), scored("a", 1, False)), (LostEpisode(2, "gone"),)),
        Group("b", (), (LostEpisode(0, "gone"),)),
        Group("a", (scored("a", 0, False),), ()),
    ]
    with GroupStore(tmp_path) as store:
        for group in groups[:2]:
            store.add(group)
    with GroupStore(tmp_path) as store:
        store.add(groups[2])
    found = list(read_groups(tmp_path))
    assert [(g.instance_id, len(g.members), g.lost) for g in found] == [(g.instance_id, len(g.members), g.lost) for g in groups]
    assert found[0].members[1].resolved is False
    np.testing.assert_array_equal(found[0].members[0].trajectory.turns[0].rollout_logprobs, [-0.5, np.nan])


def test_a_shard_without_its_lost_file_is_not_read(tmp_path: Path) -> None:
    with GroupStore(tmp_path) as store:
        store.add(Group("a", (scored("a", 0, True),), ()))
    next(tmp_path.glob("lost_*.jsonl")).unlink()
    assert list(read_groups(tmp_path)) == []
    with GroupStore(tmp_path) as store:
        store.add(Group("a", (scored("a", 0, False),), ()))
    assert [group.members[0].resolved for group in read_groups(tmp_path)] == [False]


def test_pass_at_table_is_unbiased_and_leaves_out_short_tasks() -> None:
    table = pass_at_table([[True, False], [False, False], [True]], 2, 200, 0)
    assert table["1"][0] == pytest.approx((0.5 + 0 + 1) / 3)
    assert table["2"][0] == pytest.approx(0.5)
    assert table["1"][1] <= table["1"][0] <= table["1"][2]


def test_gain_is_paired_over_common_tasks() -> None:
    assert gain_over({"a": 0.0, "b": 0.5, "x": 1.0}, {"a": 0.5, "b": 1.0}, 200, 0) == [0.5, 0.5, 0.5]


def test_closed_share() -> None:
    share = closed_share_interval(np.array([1.0, 0.5]), np.array([0.5, 0.25]), np.array([1.0, 1.0]), 200, 0)
    assert share[0] == pytest.approx((0.75 - 0.375) / (1.0 - 0.375))
    assert share[1] <= share[0] <= share[2]


def test_closed_share_is_undefined_without_a_gap() -> None:
    assert np.isnan(closed_share_interval(np.ones(3), np.ones(3), np.ones(3), 10, 0)[0])


def test_every_epoch_plays_every_task_once() -> None:
    names = [f"t{i}" for i in range(6)]
    steps = [shuffled_tasks(names, 4, 7, step) for step in range(3)]
    played = [name for step in steps for name in step]
    assert sorted(played[:6]) == sorted(played[6:]) == names
    assert shuffled_tasks(names[::-1], 4, 7, 1) == steps[1]
    assert shuffled_tasks(names, 4, 8, 0) != steps[0]


def test_task_seeds_differ_by_stage_task_and_run() -> None:
    assert task_seed(0, "rollout", "a") == task_seed(0, "rollout", "a")
    assert (
        len({task_seed(0, "rollout", "a"), task_seed(0, "eval", "a"), task_seed(1, "rollout", "a"), task_seed(0, "rollout", "b")})
        == 4
    )


def test_lost_episodes_are_counted_and_never_in_the_rate() -> None:
    counts = episode_counts([Group("a", (scored("a", 0, True),), (LostEpisode(1, "gone"),))])
    assert (counts["episodes"], counts["lost"], counts["resolved"]) == (1, 1, 1.0)


def test_the_report_escapes_what_trajectories_say(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(runs_dir=str(tmp_path)))
    with GroupStore(folder.root / "trajectories" / "eval-sft") as store:
        store.add(Group("a", (scored("a", 0, True, "<script>alert(1)</script>"),), ()))
    folder.record_stage(
        "eval-sft", {"num_tasks": 1, "num_samples": 1, "seed": 0, "pass_at": {"1": [1.0, 1.0, 1.0]}, "seconds": 1.0}
    )
    write_report(folder)
    page = (folder.root / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "100.0 % [100.0, 100.0]" in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_result_rows_of_nothing_and_of_a_gain() -> None:
    assert result_rows({}) == []
    record = {"num_tasks": 2, "num_samples": 1, "seed": 0, "pass_at": {"1": [0.5, 0.4, 0.6]}, "gain": [0.1, 0.05, 0.15]}
    assert [row[1] for row in result_rows({"eval-grpo": record})] == ["50.0 % [40.0, 60.0]", "+10.0 % [+5.0, +15.0]"]
    assert [row[0] for row in result_rows({"eval-grpo": record})][1] == "GRPO − SFT, pass@1, paired"
    assert result_rows({"eval-grpo": {**record, "gain_over": "base"}})[1][0] == "GRPO − Base, pass@1, paired"
    assert percent([-0.1, -0.2, 0.0], "+") == "-10.0 % [-20.0, +0.0]"


def test_every_stage_has_its_figures(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(runs_dir=str(tmp_path)))
    with GroupStore(folder.root / "trajectories" / "rollout") as store:
        store.add(Group("a", (scored("a", 0, True), scored("a", 1, False)), ()))
    rows = [
        {"stage": stage, "step": step, "loss": 1.0, "reward/mean": 0.5, "stop/submitted": 1.0, "time/train_s": 1.0}
        for stage in ("sft", "grpo", "world-model")
        for step in (1, 2)
    ]
    rows.append({"stage": "grpo-seconds", "step": 1, "seconds/train": 1.0, "seconds/wall": 1.0})
    (folder.root / "metrics.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    bins = [{"mean_probability": 0.2, "resolved_share": 0.1}, {"mean_probability": 0.9, "resolved_share": 0.8}]
    scorer = {"num": 0, "calibrated": {}, "reliability": bins, "reliability_raw": bins}
    curves = {"pass_at": {"1": [0.5, 0.4, 0.6]}, "tts_at": {"1": [0.5, 0.4, 0.6]}}
    size = {"closed_share": [0.0, 0.0, 0.0], "num_tasks": 1, "context": "deployable", "scorer": scorer, "seconds": 1.0}
    folder.record_stage("tts", {**curves, **size, "chosen": {"tasks": 2, "resolved": [0.5, 0.0, 1.0]}})
    evaluation = {"num_tasks": 1, "num_samples": 1, "seed": 0, "pass_at": {"1": [1.0, 1.0, 1.0]}, "seconds": 1.0}
    folder.record_stage("eval-sft", {**evaluation, "turn_budgets": {"4": [0.2, 0.1, 0.3, 3.5], "8": [0.4, 0.3, 0.5, 5.0]}})
    (folder.root / "trajectories" / "rollout" / "torn.parquet").write_bytes(b"PAR1")
    write_report(folder)
    page = (folder.root / "report.html").read_text()
    for title in ("Rollouts: turns", "SFT: loss", "GRPO: training tasks", "GRPO: where seconds go", "SWR: reliability"):
        assert f">{title}</text>" in page
    assert ">Test-time scaling: turns</text>" in page
    assert "2 tasks, patches in predictions_tts.jsonl" in page
    assert "torn.parquet" in page.split("What could not be read")[1]
    assert f"swe-master view {folder.root}" in page


def test_histogram_bins_are_whole_and_hold_everything() -> None:
    assert histogram([1, 1, 2, 9], 5) == [("1", 3.0), ("3", 0.0), ("5", 0.0), ("7", 0.0), ("9", 1.0)]
    assert sum(count for _, count in histogram(list(range(3, 1003)))) == 1000.0
    assert histogram([]) == []
