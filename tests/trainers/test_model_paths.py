"""Where models are looked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from trainers import model_paths
from trainers.model_paths import TINY_BASE, ModelPathError, resolve_model_path


def test_a_folder_with_a_config_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve_model_path(str(tmp_path)) == tmp_path


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelPathError, match=f"no model folder at '{tmp_path}/none'"):
        resolve_model_path(f"{tmp_path}/none")


def test_tiny_base_is_beside_the_module() -> None:
    beside = Path(model_paths.__file__).parent / TINY_BASE
    if not (beside / "config.json").is_file():
        pytest.skip("the shipped checkpoint is not there")
    assert resolve_model_path(TINY_BASE) == beside


def test_nothing_heavy_is_imported() -> None:
    modules = "trainers.model_paths, trainers.loss_spec, trainers.checkpoint, trainers.grpo_loop, trainers.sft_loop"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, cwd=root)
    assert result.stdout == "False\n"
