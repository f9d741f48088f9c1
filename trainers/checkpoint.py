"""Checkpoint folders: written under another name and renamed when whole, so that a name without `.partial` is complete."""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Collection
from pathlib import Path

STEP_FOLDER = re.compile(r"step_(\d+)")
SCORE_FILE = "score.json"


class CheckpointError(RuntimeError):
    """A checkpoint that could not be written or read; one line that says which and why."""


def step_folder(root: Path, step: int) -> Path:
    """Where the checkpoint after `step` optimizer steps lives: `root/step_<step>`."""
    return root / f"step_{step}"


def list_checkpoints(root: Path) -> list[tuple[int, Path]]:
    """(step, folder) of every complete checkpoint under `root`, oldest first; a missing root has none."""
    if not root.is_dir():
        return []
    found = [(STEP_FOLDER.fullmatch(entry.name), entry) for entry in root.iterdir() if entry.is_dir()]
    return sorted((int(match.group(1)), entry) for match, entry in found if match)


def latest_checkpoint(root: Path) -> tuple[int, Path] | None:
    """The newest complete checkpoint under `root`, or None."""
    checkpoints = list_checkpoints(root)
    return checkpoints[-1] if checkpoints else None


def record_score(folder: Path, score: float) -> None:
    """Note how good a checkpoint is; lower is better (a validation loss). A reader sees the old score, the new one or none."""
    partial = folder / f".{SCORE_FILE}.partial"
    partial.write_text(json.dumps({"score": score}))
    _flush(partial)
    os.replace(partial, folder / SCORE_FILE)


def best_checkpoint(root: Path) -> tuple[int, Path] | None:
    """The complete checkpoint with the lowest recorded score, the older of equals; None when none has a score."""
    scored = [(json.loads((folder / SCORE_FILE).read_text())["score"], step, folder)
              for step, folder in list_checkpoints(root) if (folder / SCORE_FILE).is_file()]  # fmt: skip
    return min(scored)[1:] if scored else None


def keep_best_and_last(root: Path, count: int, unscored: Collection[int] = ()) -> list[Path]:
    """Remove all but the newest `count` checkpoints (at least one stays), the one with the best score, and those of the steps
    `unscored` whose score is still to come; what broken-off writes left goes too. Returns the removed."""
    best = best_checkpoint(root)
    old = [folder for step, folder in list_checkpoints(root)[: -max(count, 1)] if step not in unscored]
    folders = [folder for folder in old if best is None or folder != best[1]]
    folders += [entry for entry in root.glob(".*.partial") if entry.is_dir()]
    for folder in folders:
        shutil.rmtree(folder)
    return folders


def partial_folder(folder: Path) -> Path:
    """Where `folder` is written before it is whole: a hidden sibling on the same file system."""
    return folder.parent / f".{folder.name}.partial"


def clear_folder(folder: Path) -> None:
    """An empty folder at this place, whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def publish_folder(partial: Path, folder: Path) -> None:
    """Give a finished partial folder its name once its bytes are on the disk, replacing an older folder of that name."""
    for path in [*(path for path in partial.rglob("*") if path.is_file()), partial]:
        _flush(path)
    old = folder.parent / f".{folder.name}.old.partial"
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.replace(folder, old)
    os.replace(partial, folder)
    _flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def require_space(folder: Path, num_bytes: int) -> None:
    """Raise OSError when the disk of `folder` has less than `num_bytes` free."""
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise OSError(f"{num_bytes >> 20} MiB are needed on the disk of {folder} and {free >> 20} MiB are free")


def _flush(path: Path) -> None:
    """Wait until a file or folder is on the disk, so that a name never outlives a power cut that its bytes did not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some shared file systems refuse it for folders
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
