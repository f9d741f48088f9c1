"""Experiments as configs: which runs an experiment is, and what is computed from their records."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.experiment_curves import curve_charts, difference, markdown_table, summarise
from cluster.run_folder import RunFolder
from cluster.sft_experiment import arm_folder, arm_runs, loss_per_task
from cluster.svg_charts import standalone_svg
from configs.experiment_config import load_experiment
from configs.run_config import RunConfig
from configs.stage_loading import ConfigError, load_config
from tests.trainers.training_doubles import make_sample

FILE = Path(__file__).parents[2] / "configs" / "yaml" / "experiments" / "data_scaling.yaml"


def test_the_shipped_experiment_is_five_shares_and_one_without_the_filter_three_times() -> None:
    runs = arm_runs(load_experiment(FILE, []))
    assert [run.arm.share for run in runs[:6]] == [0.2, 0.4, 0.6, 0.8, 1.0, 1.0]
    assert [run.seed for run in runs[::6]] == [0, 1, 2]
    assert len({run.folder_name for run in runs}) == 18
    for run in runs:
        assert run.config.sft.data_share == run.arm.share
        assert run.config.seed == run.seed
        assert ("mixed_results" in run.config.curate.filters) == (run.arm.name != "no difficulty filter")
        assert run.config.curate.split_seed == 0


def test_overrides_reach_every_arm(tmp_path: Path) -> None:
    experiment = load_experiment(FILE, ["seeds=[7]", "run.sft.num_steps=3"])
    assert {(run.seed, run.config.sft.num_steps) for run in arm_runs(experiment)} == {(7, 3)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("arms: []", "needs seeds and arms with names that differ"),
        ("arms: [{name: a}, {name: a}]", "needs seeds and arms with names that differ"),
        ("arms: [{name: a, set: ['engine.num_engines=2']}]", r"only curate\.\* and sft\.\* may differ"),
        ("arms: [{name: a, set: ['sft.nums_steps=2']}]", "arm 'a': .*nums_steps"),
        ("arm: []", "arm"),
        ("[1]", "must hold keys and values"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_experiment(file, [])
    assert "\n" not in str(caught.value)


def test_an_arm_sees_the_shared_rollouts_and_writes_beside_them(tmp_path: Path) -> None:
    root = RunFolder.create(RunConfig(runs_dir=str(tmp_path)))
    (root.root / "trajectories" / "rollout").mkdir()
    (root.root / "trajectories" / "rollout" / "shard").touch()
    run = arm_runs(load_experiment(FILE, []))[0]
    for _ in range(2):  # again after a stop
        folder = arm_folder(root, run)
    assert (folder.root / "trajectories" / "rollout" / "shard").is_file()
    assert load_config(folder.root / "config.yaml", []) == run.config
    folder.record_stage("sft", {})
    assert root.stage_records() == {}


def test_loss_per_task_by_hand() -> None:
    samples = [make_sample(np.random.default_rng(index), 4) for index in range(2)]
    for sample, mask in zip(samples, ([0, 0, 1, 1], [0, 1, 0, 0]), strict=True):
        sample.loss_mask[:] = mask
    rows = [np.array([0, -9, -1, -3], np.float32), np.array([0, -5, -9, -9], np.float32)]
    assert loss_per_task(samples, rows) == {"task": 3.0}


def record(arm: str, share: float, seed: int, solved: dict[str, float], curve: str = "filter") -> dict[str, Any]:
    losses = {task: 1.0 - value / 2 for task, value in solved.items()}
    return {
        "arm": arm, "curve": curve, "share": share, "seed": seed, "samples": 100 * share, "steps": 5,
        "solved_per_task": solved, "loss_per_task": losses,
    }  # fmt: skip


RECORDS = [
    record("half", 0.5, 0, {"a": 0.0, "b": 0.5}),
    record("half", 0.5, 1, {"a": 0.5, "b": 0.0, "c": 1.0}),
    record("all", 1.0, 0, {"a": 1.0, "b": 0.5}),
    record("all", 1.0, 1, {"a": 0.5, "b": 1.0}),
]


def test_an_arm_is_the_mean_of_its_seeds_over_the_tasks_that_all_have() -> None:
    half, whole = summarise(RECORDS)
    assert (half.arm, half.samples, half.seeds) == ("half", 50, (0, 1))
    assert half.per_task["solved_per_task"] == {"a": 0.25, "b": 0.25}
    assert half.by_seed["solved_per_task"] == (0.25, 0.5)
    assert whole.interval["solved_per_task"].mean == 0.75
    gap = difference(half, whole, "solved_per_task")
    assert (gap.mean, gap.low, gap.high, gap.num_tasks) == (0.5, 0.5, 0.5, 2)


def test_table_and_curves() -> None:
    summaries = summarise([*RECORDS, record("no filter", 1.0, 0, {"a": 0.0, "b": 0.0}, curve="no filter")])
    table = markdown_table(summaries).splitlines()
    assert table[3].startswith("| all | 100 | 75.0% [75.0%, 75.0%] | 75.0%, 75.0% | 0.6250 [")
    charts = curve_charts(summaries)
    for chart in charts.values():
        svg = standalone_svg(chart)
        assert svg.count("<polyline") == 2
        assert svg.count("<circle") == 3
        assert "no filter" in svg
