"""Options that must not change the numbers (checkpointing, offload) and those that do (adapters, bfloat16)."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from configs.optimizer_config import LearnerConfig, OptimizerConfig
from tests.trainers.training_doubles import largest_difference, loss_and_gradient, make_sample
from trainers.activation_memory import activations_in_host_memory
from trainers.deepspeed_engine import engine_settings
from trainers.deepspeed_learner import DeepSpeedLearner
from trainers.layer_compiling import compile_layers
from trainers.loss_spec import LossSpec
from trainers.low_rank_adapters import add_adapters
from trainers.pretrained_lm import PretrainedLM, load_pretrained_lm

OPTIMIZER = OptimizerConfig(learning_rate=1e-3, warmup_steps=0, schedule="constant", max_grad_norm=0.5)
SFT = LossSpec("cross_entropy", context_loss_weight=0.1)
SAMPLES = [make_sample(np.random.default_rng(index), 10 + 5 * index) for index in range(4)]


def start(model_folder: Path, dtype: str = "float32", learning_rate: float = 1e-3, **settings: object) -> DeepSpeedLearner:
    optimizer = OptimizerConfig(learning_rate=learning_rate, warmup_steps=0, schedule="constant", max_grad_norm=0.5)
    learner = LearnerConfig(tokens_per_micro_batch=40, num_threads=1, **settings)  # type: ignore[arg-type]
    return DeepSpeedLearner(model_folder, dtype, optimizer, learner, 10, rank=0, world_size=1, master_port=0, seed=0)


@pytest.mark.parametrize("offload", [False, True])
def test_checkpointed_layers_give_the_same_gradients(model: PretrainedLM, model_folder: Path, offload: bool) -> None:
    loss, gradient = loss_and_gradient(model, SAMPLES, SFT, 60)
    other = load_pretrained_lm(model_folder, "float32")
    other.save_activation_memory(checkpointing=True, offload=offload)
    assert any(getattr(layer, "gradient_checkpointing", False) for layer in other.lm.modules())
    other_loss, other_gradient = loss_and_gradient(other, SAMPLES, SFT, 60)
    assert other_loss == pytest.approx(loss, rel=1e-6)
    assert largest_difference(gradient, other_gradient) < 1e-6


def test_compiled_parts_give_the_same_gradients(model: PretrainedLM, model_folder: Path) -> None:
    """Traced, not turned into machine code: that needs a minute of a C++ compiler here."""
    loss, gradient = loss_and_gradient(model, SAMPLES, SFT, 60)
    other = load_pretrained_lm(model_folder, "float32")
    assert compile_layers(other.lm, backend="eager") == 3 * len(other.lm.get_decoder().layers)
    other_loss, other_gradient = loss_and_gradient(other, SAMPLES, SFT, 60)
    assert other_loss == pytest.approx(loss, rel=1e-6)
    assert largest_difference(gradient, other_gradient) < 1e-6


def test_activations_wait_in_host_memory_and_parameters_stay() -> None:
    weight = torch.nn.Parameter(torch.ones(64, 64))
    values = torch.randn(8, 64, requires_grad=True) * 1.0
    with activations_in_host_memory(min_bytes=1024) as moved:
        out = torch.tanh(values @ weight)
    assert moved == [values.nbytes, out.nbytes]
    out.sum().backward()
    assert weight.grad is not None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_offloaded_state_takes_the_same_steps(model_folder: Path, dtype: str) -> None:
    losses = []
    for offload in (False, True):
        learner = start(model_folder, dtype, zero_stage=3, optimizer_offload=offload, parameter_offload=offload)
        losses.append([learner.train_step(SAMPLES, SFT)["loss"] for _ in range(3)])
        learner.close()
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_a_poisoned_step_is_skipped_in_every_stage(model_folder: Path, stage: int, dtype: str) -> None:
    """The steps after it are bit-equal to those of a run that never saw it."""
    poison = [make_sample(np.random.default_rng(9), 20, advantage=float("nan"))]
    policy = LossSpec("clip_higher", max_response_tokens=50)
    learner = start(model_folder, dtype, zero_stage=stage)
    learner.train_step(SAMPLES, SFT)
    expected = learner.train_step(SAMPLES, SFT)
    learner.reset(model_folder, OPTIMIZER, 10)
    learner.train_step(SAMPLES, SFT)
    skipped = learner.train_step([SAMPLES[0], *poison], policy)
    assert (skipped["skipped"], skipped["skipped_total"], skipped["grad_norm"]) == (1, 1, np.inf)
    after = learner.train_step(SAMPLES, SFT)
    learner.close()
    assert (after["loss"], after["grad_norm"]) == (expected["loss"], expected["grad_norm"])
    assert after["skipped_total"] == 1


@pytest.mark.parametrize(
    ("stage", "dtype", "offload"),
    [
        (1, "float32", False),
        (1, "bfloat16", False),
        (2, "bfloat16", False),
        (2, "float32", True),
        (3, "float32", False),
        (3, "bfloat16", True),
    ],
)
def test_an_update_whose_gradient_is_too_large_is_left_out(model_folder: Path, stage: int, dtype: str, offload: bool) -> None:
    """At the bound it is, below it not; the steps after it are bit-equal to those of a run that never saw it."""
    learner = start(model_folder, dtype, zero_stage=stage, optimizer_offload=offload)
    first, second = (learner.train_step(SAMPLES, SFT) for _ in range(2))
    norm = first["grad_norm"]
    learner.reset(model_folder, replace(OPTIMIZER, skip_grad_norm=norm), 10)
    skipped = learner.train_step(SAMPLES, SFT)
    assert (skipped["skipped"], skipped["skipped_total"], skipped["grad_norm"]) == (1, 1, norm)
    assert learner.train_step(SAMPLES, SFT)["loss"] == first["loss"]
    learner.reset(model_folder, replace(OPTIMIZER, skip_grad_norm=norm * 1.0001), 10)
    assert [learner.train_step(SAMPLES, SFT)["loss"] for _ in range(2)] == [first["loss"], second["loss"]]
    learner.close()


def test_bfloat16_weights_have_float32_masters(model_folder: Path) -> None:
    """Steps far below a bfloat16 digit add up: without masters a weight of size 1 would never move."""
    learner = start(model_folder, "bfloat16", learning_rate=3e-4, zero_stage=2)
    before = dict(learner.weights())
    norm = "model.norm.weight"  # all ones: the next bfloat16 below 1 is 0.0039 away
    for _ in range(3):
        learner.train_step(SAMPLES, SFT)
    few = dict(learner.weights())[norm]
    assert np.array_equal(before[norm], few)
    for _ in range(25):
        learner.train_step(SAMPLES, SFT)
    many = dict(learner.weights())[norm]
    learner.close()
    assert not np.array_equal(before[norm], many)


def test_adapters_train_alone_and_export_merged(model_folder: Path, tmp_path: Path) -> None:
    learner = start(model_folder, zero_stage=3, lora_rank=4, lora_alpha=8.0, activation_checkpointing=True, learning_rate=1e-2)
    before = dict(learner.weights())
    losses = [learner.train_step(SAMPLES, SFT)["loss"] for _ in range(5)]
    assert losses[-1] < losses[0]
    after = dict(learner.weights())
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if name.endswith("proj.weight")}
    expected = learner.token_logprobs(SAMPLES)
    learner.export_hf(tmp_path / "hf")
    learner.close()
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    for sample, values in zip(SAMPLES, expected, strict=True):
        ids = torch.from_numpy(sample.token_ids.astype(np.int64))[None]
        with torch.no_grad():
            found = torch.log_softmax(exported(ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        assert np.allclose(values[1:], found.numpy(), atol=1e-4)


def test_settings_that_cannot_act_together(model: PretrainedLM) -> None:
    with pytest.raises(ValueError, match="zero_stage=4 is not supported"):
        engine_settings("float32", OPTIMIZER, LearnerConfig(zero_stage=4))
    with pytest.raises(ValueError, match=r"parameter_offload needs learner\.zero_stage=3"):
        engine_settings("float32", OPTIMIZER, LearnerConfig(zero_stage=2, parameter_offload=True))
    with pytest.raises(ValueError, match=r"optimizer_offload with bfloat16 needs learner\.zero_stage=3"):
        engine_settings("bfloat16", OPTIMIZER, LearnerConfig(zero_stage=2, optimizer_offload=True))
    with pytest.raises(ValueError, match="lora_targets=\\['nowhere'\\]"):
        add_adapters(model.lm, LearnerConfig(lora_rank=2, lora_targets=("nowhere",)))
