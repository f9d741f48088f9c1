"""The learner on one rank: against plain torch, its files, and what it does with bad numbers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from configs.optimizer_config import LearnerConfig, OptimizerConfig
from tests.trainers.training_doubles import loss_and_gradient, make_sample
from trainers.deepspeed_learner import DeepSpeedLearner, LearnerError
from trainers.loss_spec import LossSpec
from trainers.pretrained_lm import PretrainedLM, load_pretrained_lm

OPTIMIZER = OptimizerConfig(learning_rate=1e-3, warmup_steps=0, schedule="constant", weight_decay=0.01, max_grad_norm=0.5)
POLICY, SFT = LossSpec("clip_higher", max_response_tokens=50), LossSpec("cross_entropy", context_loss_weight=0.1)
SAMPLES = [make_sample(np.random.default_rng(index), 10 + 5 * index) for index in range(6)]
SETTINGS = LearnerConfig(zero_stage=1, tokens_per_micro_batch=80, num_threads=1)


@pytest.fixture(scope="module")
def shared_learner(model_folder: Path) -> Iterator[DeepSpeedLearner]:
    learner = DeepSpeedLearner(model_folder, "float32", OPTIMIZER, SETTINGS, 10, rank=0, world_size=1, master_port=0, seed=0)
    yield learner
    learner.close()


@pytest.fixture
def learner(shared_learner: DeepSpeedLearner, model_folder: Path) -> DeepSpeedLearner:
    shared_learner.reset(model_folder, OPTIMIZER, 10)
    return shared_learner


def test_steps_equal_plain_torch(learner: DeepSpeedLearner, model: PretrainedLM) -> None:
    plain = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=OPTIMIZER.betas, weight_decay=0.01)
    for spec in (SFT, SFT, POLICY):
        loss, gradient = loss_and_gradient(model, SAMPLES, spec, 1000)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER.max_grad_norm)
        plain.step()
        metrics = learner.train_step(SAMPLES, spec)
        assert metrics["loss"] == pytest.approx(loss, rel=1e-4)
        assert metrics["grad_norm"] == pytest.approx(float(norm), rel=1e-3)
        assert gradient
    ours = dict(learner.weights())
    expected = dict(model.lm.named_parameters())
    assert ours.keys() == expected.keys()
    worst = max(float(np.abs(ours[name] - expected[name].detach().numpy()).max()) for name in ours)
    assert worst < 1e-4  # three steps of 1e-3


def test_loss_falls_and_metrics_count(learner: DeepSpeedLearner) -> None:
    metrics = [learner.train_step(SAMPLES, SFT) for _ in range(8)]
    assert metrics[-1]["loss"] < metrics[0]["loss"] - 0.3
    assert [row["step"] for row in metrics] == list(range(1, 9))
    assert metrics[0]["tokens"] == sum(10 + 5 * index for index in range(6))
    assert metrics[0]["trained_tokens"] == sum(int(sample.loss_mask.sum()) for sample in SAMPLES)
    assert metrics[0]["samples"] == 6
    assert metrics[0]["skipped"] == 0


def test_policy_metrics_at_the_sampling_policy(learner: DeepSpeedLearner) -> None:
    """With the learner's own log-probs as the rollout's, the ratio is 1 and the gap 0."""
    logprobs = learner.token_logprobs(SAMPLES)
    exact = [
        replace(sample, rollout_logprobs=values * sample.loss_mask) for sample, values in zip(SAMPLES, logprobs, strict=True)
    ]
    metrics = learner.train_step(exact, POLICY)
    assert metrics["ratio"] == pytest.approx(1, abs=1e-5)
    assert metrics["logprob_gap_max"] < 1e-5
    assert metrics["clip_fraction_low"] == metrics["clip_fraction_high"] == 0
    assert learner.train_step(SAMPLES, POLICY)["logprob_gap_max"] > 0.1


def test_token_logprobs_equal_transformers(learner: DeepSpeedLearner, model: PretrainedLM) -> None:
    for sample, values in zip(SAMPLES, learner.token_logprobs(SAMPLES), strict=True):
        ids = torch.from_numpy(sample.token_ids.astype(np.int64))[None]
        with torch.no_grad():
            expected = torch.log_softmax(model.lm(ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        assert values[0] == 0
        assert np.allclose(values[1:], expected.numpy(), atol=1e-5)


def weights_of(learner: DeepSpeedLearner) -> dict[str, np.ndarray]:
    return dict(learner.weights())


@pytest.mark.parametrize("poison", ["NaN", "nothing to train on", "no samples"])
def test_a_step_that_cannot_be_taken_leaves_the_weights(learner: DeepSpeedLearner, poison: str) -> None:
    before = weights_of(learner)
    sample = replace(SAMPLES[0], advantages=-np.abs(SAMPLES[0].advantages))
    batches = {
        "NaN": [SAMPLES[1], replace(sample, advantages=sample.advantages * np.float32("nan"))],
        "nothing to train on": [replace(sample, advantages=0 * sample.advantages)],
        "no samples": [],
    }
    metrics = learner.train_step(batches[poison], POLICY)
    assert metrics["skipped"] == 1
    assert metrics["step"] == 1
    after = weights_of(learner)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert learner.train_step(SAMPLES, POLICY)["skipped"] == 0


def test_resume_is_bit_equal(learner: DeepSpeedLearner, model_folder: Path, tmp_path: Path) -> None:
    learner.train_step(SAMPLES, SFT)
    learner.save_checkpoint(tmp_path / "step_1", {"tasks": [1, 2]})
    unbroken = [learner.train_step(SAMPLES, SFT) for _ in range(2)]
    expected = weights_of(learner)
    learner.reset(model_folder, OPTIMIZER, 10)
    assert learner.load_checkpoint(tmp_path / "step_1") == {"tasks": [1, 2]}
    assert [learner.train_step(SAMPLES, SFT) for _ in range(2)] == unbroken
    resumed = weights_of(learner)
    assert all(np.array_equal(expected[name], resumed[name]) for name in expected)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step_1"]


def test_export_loads_with_equal_logits(learner: DeepSpeedLearner, model_folder: Path, tmp_path: Path) -> None:
    learner.train_step(SAMPLES, SFT)
    learner.export_hf(tmp_path / "hf")
    exported = load_pretrained_lm(tmp_path / "hf", "float32")
    for sample, values in zip(SAMPLES, learner.token_logprobs(SAMPLES), strict=True):
        ids = torch.from_numpy(sample.token_ids.astype(np.int64))[None]
        with torch.no_grad():
            expected = torch.log_softmax(exported.lm(ids).logits[0, :-1], -1).gather(1, ids[0, 1:, None])[:, 0]
        assert np.allclose(values[1:], expected.numpy(), atol=1e-5)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype="auto").dtype == torch.float32
    assert (tmp_path / "hf" / "tokenizer.json").read_bytes() == (model_folder / "tokenizer.json").read_bytes()


def test_the_learning_rate_follows_the_schedule(learner: DeepSpeedLearner, model_folder: Path) -> None:
    learner.reset(model_folder, OptimizerConfig(learning_rate=1.0, warmup_steps=2, schedule="linear", max_grad_norm=1e-9), 4)
    assert [learner.train_step(SAMPLES[:1], SFT)["lr"] for _ in range(4)] == pytest.approx([0.5, 1, 2 / 3, 1 / 3])


def test_a_folder_that_is_no_checkpoint(learner: DeepSpeedLearner, tmp_path: Path) -> None:
    with pytest.raises(LearnerError, match="is no checkpoint"):
        learner.load_checkpoint(tmp_path)


def test_bfloat16_weights_come_as_bits(shared_learner: DeepSpeedLearner, model_folder: Path, tmp_path: Path) -> None:
    half = DeepSpeedLearner(model_folder, "bfloat16", OPTIMIZER, SETTINGS, 10, rank=0, world_size=1, master_port=0, seed=0)
    losses = [half.train_step(SAMPLES, SFT)["loss"] for _ in range(4)]
    assert losses[-1] < losses[0]
    half.export_hf(tmp_path / "hf")
    exported = dict(AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype="auto").named_parameters())
    for name, bits in half.weights():
        assert bits.dtype == np.uint16
        assert torch.equal(torch.from_numpy(bits).view(torch.bfloat16), exported[name])
