"""Two gloo ranks do what one rank does, in every ZeRO stage."""

import socket
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from tests.trainers.learner_processes import FIRST_RANK_SAMPLES, run_ranks, train

STAGES = [1, 2, 3]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def alone(model_folder: Path, work: Path) -> dict[str, Any]:
    """What one rank saw, in this process, ZeRO stage 1."""
    return train(model_folder, work, stage=1, rank=0, world_size=1, port=0)


@pytest.fixture(scope="module")
def together(model_folder: Path, work: Path) -> dict[int, tuple[dict[str, Any], dict[str, Any]]]:
    """What each of two ranks saw, by stage."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    first, second = run_ranks(model_folder, work, STAGES, port, world_size=2)
    return dict(zip(STAGES, zip(first, second, strict=True), strict=True))


@pytest.mark.parametrize("stage", STAGES)
def test_two_ranks_equal_one(alone: dict[str, Any], together: dict[int, Any], stage: int) -> None:
    first, second = together[stage]
    assert first["metrics"] == second["metrics"]
    for expected, metrics in zip(alone["metrics"], first["metrics"], strict=True):
        assert metrics == pytest.approx(expected, rel=2e-4, abs=1e-6)
    assert first["logprobs"] + second["logprobs"] == pytest.approx(alone["logprobs"], rel=1e-3)
    assert len(first["logprobs"]) == FIRST_RANK_SAMPLES


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_after_loading_is_bit_equal(together: dict[int, Any], stage: int) -> None:
    for rank in together[stage]:
        assert rank["again"] == rank["following"]
        assert rank["again"]["step"] == 5
        assert rank["state"] == {"note": stage}
        assert rank["debris"] == ["step_4"]


@pytest.mark.parametrize("stage", STAGES)
def test_exports_of_one_and_two_ranks_hold_the_same_weights(
    alone: dict[str, Any], together: dict[int, Any], work: Path, stage: int
) -> None:
    folders = (work / "hf_1_1", work / f"hf_2_{stage}")
    one, two = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in folders)
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 2e-4
    assert together[stage][0]["names"] == alone["names"]
