"""A two-layer model, written once a session."""

from pathlib import Path

import pytest

from tests.actors.random_qwen import write_random_qwen
from trainers.pretrained_lm import PretrainedLM, load_pretrained_lm


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_qwen(tmp_path_factory.mktemp("random_qwen"), seed=0)


@pytest.fixture
def model(model_folder: Path) -> PretrainedLM:
    return load_pretrained_lm(model_folder, "float32")
