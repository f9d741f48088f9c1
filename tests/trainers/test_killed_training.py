"""A run killed in the middle of a step, and a disk that fills up while a checkpoint is written."""

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.trainers.killed_training import NUM_STEPS, run, run_process
from trainers.checkpoint import list_checkpoints


@pytest.fixture(scope="module")
def unbroken(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Losses and weights of a run that nothing stopped, in this process."""
    return trained(model_folder, tmp_path_factory.mktemp("unbroken") / "checkpoints")


@pytest.fixture(scope="module")
def killed(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of a run that killed itself in its eighth micro-batch."""
    root = tmp_path_factory.mktemp("killed") / "checkpoints"
    code, errors = run_process(model_folder, root, root / "none.npz", kill_at=8)
    assert code == -signal.SIGKILL, errors[-2000:]
    return root


def trained(model_folder: Path, root: Path) -> dict[str, np.ndarray]:
    root.mkdir(exist_ok=True)
    run(model_folder, root, root / "out.npz", kill_at=0)
    with np.load(root / "out.npz") as weights:
        return dict(weights)


def assert_goes_on_bit_equal(model_folder: Path, root: Path, unbroken: dict[str, np.ndarray]) -> None:
    last = list_checkpoints(root)[-1][0]
    assert 0 < last < NUM_STEPS
    resumed = trained(model_folder, root)
    assert resumed.keys() == unbroken.keys()
    assert np.array_equal(resumed.pop("losses"), unbroken["losses"][last:])
    assert all(np.array_equal(values, unbroken[name]) for name, values in resumed.items())


@pytest.mark.timeout(400)
def test_a_run_killed_mid_step_resumes_to_bit_equal_weights(
    model_folder: Path, tmp_path: Path, killed: Path, unbroken: dict[str, np.ndarray]
) -> None:
    shutil.copytree(killed, tmp_path / "checkpoints")
    assert_goes_on_bit_equal(model_folder, tmp_path / "checkpoints", unbroken)


@pytest.mark.timeout(400)
def test_a_disk_that_fills_while_saving_leaves_the_last_good_checkpoint(
    model_folder: Path, tmp_path: Path, killed: Path, unbroken: dict[str, np.ndarray]
) -> None:
    root = tmp_path / "checkpoints"
    shutil.copytree(killed, root)
    good = list_checkpoints(root)
    code, errors = run_process(model_folder, root, tmp_path / "none.npz", kill_at=0, max_file_bytes=200_000)
    assert code == 1
    assert "CheckpointError" in errors
    assert "was not written, 1 of 1 ranks failed" in errors
    assert list_checkpoints(root) == good
    assert not list(root.glob(".*"))
    assert_goes_on_bit_equal(model_folder, root, unbroken)
