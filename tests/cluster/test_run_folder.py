from pathlib import Path

import pytest

from cluster.metric_sinks import JSONLSink, MetricSinks, read_metrics
from cluster.run_folder import RunFolder, RunFolderError, write_atomically
from configs.run_config import RunConfig
from configs.stage_loading import load_config


def test_the_written_configuration_starts_the_same_run(tmp_path: Path) -> None:
    config = load_config(None, [f"runs_dir={tmp_path}", "grpo.group_size=3"])
    folder = RunFolder.create(config)
    assert load_config(folder.root / "config.yaml", []) == config
    assert (folder.root / "versions.json").is_file()


def test_two_runs_in_one_second_get_two_folders(tmp_path: Path) -> None:
    config = RunConfig(runs_dir=str(tmp_path))
    assert RunFolder.create(config).root != RunFolder.create(config).root


def test_stage_records_keep_their_order(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(runs_dir=str(tmp_path)))
    folder.record_stage("tasks", {"n": 1})
    folder.record_stage("sft", {"n": 2})
    assert list(RunFolder.open(folder.root).stage_records().items()) == [("tasks", {"n": 1}), ("sft", {"n": 2})]


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="not a run folder"):
        RunFolder.open(tmp_path)


def test_a_corrupt_record_is_named(tmp_path: Path) -> None:
    folder = RunFolder.create(RunConfig(runs_dir=str(tmp_path)))
    (folder.root / "stages.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"stages\.json is corrupt"):
        folder.stage_records()


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot make the run folder"):
        RunFolder.create(RunConfig(runs_dir=str(tmp_path / "file")))


def test_write_atomically_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "not bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_resumed_run_overwrites_the_steps_it_repeats(tmp_path: Path) -> None:
    sink = JSONLSink(tmp_path / "metrics.jsonl")
    for step, loss in ((1, 3.0), (2, 2.0), (2, 1.5)):
        sink.log("sft", step, {"loss": loss})
    sink.log("grpo", 1, {"loss": 9.0})
    sink.close()
    with open(tmp_path / "metrics.jsonl", "ab") as file:
        file.write(b'{"stage": "sft", "st')
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path, "sft")] == [(1, 3.0), (2, 1.5)]


def test_the_rows_step_is_that_of_the_loop_not_of_the_learner(tmp_path: Path) -> None:
    sink = JSONLSink(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        sink.log("grpo", step, {"step": 2.0 * step, "loss": 1.0})
    sink.close()
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path, "grpo")] == [(1, 1.0), (2, 1.0)]


def test_unknown_trackers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown trackers \\['mlflow'\\]"):
        MetricSinks(RunConfig(trackers=("mlflow",)), tmp_path)
