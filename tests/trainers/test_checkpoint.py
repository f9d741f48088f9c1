"""Checkpoint folders on disk."""

import json
from pathlib import Path

from trainers.checkpoint import (
    SCORE_FILE,
    best_checkpoint,
    clear_folder,
    keep_best_and_last,
    latest_checkpoint,
    list_checkpoints,
    partial_folder,
    publish_folder,
    record_score,
    step_folder,
)


def test_steps_are_ordered_by_number_and_broken_off_ones_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("step_9", "step_10", ".step_11.partial", "notes"):
        (tmp_path / name).mkdir()
    (tmp_path / "step_12").write_text("a file")
    assert [step for step, _ in list_checkpoints(tmp_path)] == [9, 10]
    assert latest_checkpoint(tmp_path) == (10, tmp_path / "step_10")
    assert latest_checkpoint(tmp_path / "missing") is None


def test_older_ones_without_a_score_are_removed_and_debris(tmp_path: Path) -> None:
    for name in ("step_1", "step_2", "step_10", ".step_11.partial"):
        (tmp_path / name).mkdir()
    keep_best_and_last(tmp_path, 2)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["step_10", "step_2"]
    keep_best_and_last(tmp_path, 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step_10"]


def test_a_score_is_replaced_whole(tmp_path: Path) -> None:
    """Who reads meanwhile, or after a kill in between, finds a whole score."""
    folder = step_folder(tmp_path, 3)
    folder.mkdir()
    record_score(folder, -0.5)
    with (folder / SCORE_FILE).open() as reader:
        record_score(folder, -0.9)
        assert json.load(reader) == {"score": -0.5}
    assert [entry.name for entry in folder.iterdir()] == [SCORE_FILE]
    assert best_checkpoint(tmp_path) == (3, folder)


def test_publish_replaces_a_folder_of_the_same_name(tmp_path: Path) -> None:
    folder = step_folder(tmp_path, 3)
    for content in ("old", "new"):
        partial = partial_folder(folder)
        clear_folder(partial)
        (partial / "weights").write_text(content)
        publish_folder(partial, folder)
    assert (folder / "weights").read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["step_3"]
