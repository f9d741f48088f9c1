"""Arithmetic of the memory and time plan, against published parameter counts and numbers done by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from configs.optimizer_config import LearnerConfig
from configs.stage_loading import load_config
from tests.actors.random_qwen import write_random_qwen
from trainers.memory_plan import (
    GIB,
    KNOWN_SHAPES,
    PlanError,
    flops_per_token,
    plan_training,
    read_shape,
    render_training_plan,
    require_fit,
)
from trainers.pretrained_lm import load_pretrained_lm

CODER = KNOWN_SHAPES["Qwen2.5-Coder-32B"]
LEARNER = LearnerConfig(num_ranks=16, zero_stage=3, sequence_parallel=8, activation_checkpointing=True)
YAML = Path(__file__).parents[2] / "configs" / "yaml"


def test_published_sizes() -> None:
    billions = {name: shape.num_parameters / 1e9 for name, shape in KNOWN_SHAPES.items()}
    assert billions["Qwen2.5-Coder-32B"] == pytest.approx(32.8, abs=0.1)  # model card: 32.5 B, 31.0 B without embeddings
    assert billions["Qwen3-4B"] == pytest.approx(4.0, abs=0.05)
    assert billions["Qwen3-0.6B"] == pytest.approx(0.6, abs=0.01)


def test_the_shape_of_a_folder_counts_its_matrices(tmp_path: Path) -> None:
    folder = write_random_qwen(tmp_path, seed=0)
    matrices = sum(p.numel() for p in load_pretrained_lm(folder, "float32").lm.parameters() if p.dim() == 2)
    assert read_shape(folder).num_parameters == matrices
    assert read_shape(Path("somewhere/Qwen3-4B-Instruct-2507")) == KNOWN_SHAPES["Qwen3-4B"]
    with pytest.raises(PlanError, match="give the model's folder"):
        read_shape(tmp_path / "unknown")


def test_memory_by_hand() -> None:
    plan = plan_training(CODER, LEARNER, "bfloat16", 81_920, 40_000, 256, 245)
    assert plan.gpu_bytes["optimizer"] == CODER.num_parameters * 12 / 16
    assert plan.gpu_bytes["weights"] == CODER.num_parameters * 2 / 16
    assert plan.gpu_bytes["activations kept"] == 10_240 * 5120 * 2 * 64
    assert plan.step_tokens == 256 * 40_000
    offloaded = plan_training(
        CODER, replace(LEARNER, optimizer_offload=True, activation_offload=True), "bfloat16", 81_920, 40_000, 256, 245
    )
    assert offloaded.host_bytes == plan.gpu_bytes["optimizer"] + plan.gpu_bytes["activations kept"]
    require_fit("sft", plan)
    alone = plan_training(CODER, replace(LEARNER, num_ranks=1, sequence_parallel=1, lora_rank=16), "bfloat16", 8192, 8192, 1, 1)
    assert alone.gpu_bytes["optimizer"] < GIB * 3


def test_flops_by_hand() -> None:
    shape = replace(CODER, layers=1, vocabulary=0)
    assert flops_per_token(shape, 0) == 6 * shape.layer_parameters
    assert flops_per_token(shape, 100) - flops_per_token(shape, 0) == 6 * 5120 * 100


def test_what_cannot_be_is_refused_with_what_to_change() -> None:
    two = replace(LEARNER, zero_stage=2)
    with pytest.raises(PlanError, match=r"sft does not fit: 108\.\d GiB of 80 per GPU; try learner.zero_stage=3"):
        require_fit("sft", plan_training(CODER, two, "bfloat16", 81_920, 40_000, 256, 245))
    with pytest.raises(PlanError, match="sequence_parallel=16 divides not all of 40 heads"):
        plan_training(CODER, replace(LEARNER, sequence_parallel=16), "bfloat16", 81_920, 40_000, 256, 245)


@pytest.mark.parametrize("name", ["sft_qwen25_coder_32b", "sft_qwen3_4b", "sft_tiny"])
def test_recipes_load_and_fit(name: str) -> None:
    config = load_config(YAML / f"{name}.yaml", [])
    shape = read_shape(Path(config.model.path)) if name != "sft_tiny" else KNOWN_SHAPES["Qwen3-0.6B"]
    sft = config.sft
    assert (sft.epochs, sft.optimizer.warmup_ratio, sft.learner.zero_stage) == (5, 0.1, 3)
    assert sft.optimizer.min_learning_rate == pytest.approx(sft.optimizer.learning_rate / 10)
    plan = plan_training(shape, sft.learner, config.model.dtype, sft.max_tokens, sft.expected_tokens, sft.batch_size, 1)
    require_fit(name, plan)
    text = render_training_plan(name, plan, config.model.dtype, on_gpu=True)
    assert "optimizer" in text
    assert "assumed" in text
