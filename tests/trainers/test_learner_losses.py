"""Policy losses, the learner-relative ratio and the divergence from the first policy on a real learner rank."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.grpo_config import GRPOConfig
from configs.optimizer_config import LearnerConfig, OptimizerConfig
from tests.trainers.training_doubles import loss_and_gradient, make_group, make_sample, make_trajectory, make_turn
from trainers.advantages import ADVANTAGES
from trainers.deepspeed_learner import DeepSpeedLearner
from trainers.loss_spec import LossSpec
from trainers.policy_update import update_policy
from trainers.pretrained_lm import PretrainedLM
from trainers.sample_building import flatten_group
from trainers.train_sample import TrainSample
from verifier.reward import Group

OPTIMIZER = OptimizerConfig(learning_rate=1e-3, warmup_steps=0, schedule="constant", weight_decay=0.0, max_grad_norm=1e9)
SETTINGS = LearnerConfig(zero_stage=1, tokens_per_micro_batch=40, num_threads=1)
SAMPLES = [make_sample(np.random.default_rng(index), 10 + 5 * index) for index in range(5)]


@pytest.fixture(scope="module")
def shared_learner(model_folder: Path) -> Iterator[DeepSpeedLearner]:
    learner = DeepSpeedLearner(model_folder, "float32", OPTIMIZER, SETTINGS, 10, rank=0, world_size=1, master_port=0, seed=0)
    yield learner
    learner.close()


@pytest.fixture
def learner(shared_learner: DeepSpeedLearner, model_folder: Path) -> DeepSpeedLearner:
    shared_learner.reset(model_folder, OPTIMIZER, 10)
    return shared_learner


class OneRank:
    """The learner as a GRPO loop calls it."""

    def __init__(self, learner: DeepSpeedLearner) -> None:
        self._learner = learner

    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
        return self._learner.train_step(samples, loss)

    async def token_logprobs(self, samples: list[TrainSample]) -> list[np.ndarray]:
        return self._learner.token_logprobs(samples)

    async def reference_logprobs(self, samples: list[TrainSample]) -> list[np.ndarray]:
        return self._learner.reference_logprobs(samples)


def uneven_group() -> Group:
    """Two members that wrote different tokens, the first rewarded."""
    good, bad = make_group([1, 0]).members
    other = replace(bad, trajectory=make_trajectory([make_turn([1, 2], [5, 6], [-0.1, -0.2])], 1))
    return Group("task", (good, other), ())


@pytest.mark.parametrize(
    "spec",
    [
        LossSpec("gspo", 3e-4, 4e-4, aggregation="seq-mean-token-mean"),
        LossSpec("gspo", 0.9, 90.0, aggregation="seq-mean-token-mean"),
        LossSpec("cispo", aggregation="token-mean"),
        LossSpec("clip_higher", aggregation="token-mean"),
    ],
    ids=lambda spec: f"{spec.name}-{spec.clip_high:g}",
)
def test_a_step_has_the_loss_and_gradient_of_one_large_batch(
    learner: DeepSpeedLearner, model: PretrainedLM, spec: LossSpec
) -> None:
    loss, gradient = loss_and_gradient(model, SAMPLES, spec, 1000)
    norm = float(np.sqrt(sum(float((value.double() ** 2).sum()) for value in gradient.values())))
    metrics = learner.train_step(SAMPLES, spec)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-4)
    assert metrics["grad_norm"] == pytest.approx(norm, rel=1e-3)
    assert 0 <= metrics["clip_fraction_low"] + metrics["clip_fraction_high"] <= 1


def test_the_first_policy_is_remembered(learner: DeepSpeedLearner) -> None:
    before = learner.token_logprobs(SAMPLES)
    learner.train_step(SAMPLES, LossSpec("cross_entropy"))
    after, reference = learner.token_logprobs(SAMPLES), learner.reference_logprobs(SAMPLES)
    assert max(float(np.abs(one - two).max()) for one, two in zip(before, after, strict=True)) > 1e-3
    for one, two in zip(before, reference, strict=True):
        assert np.allclose(one, two, atol=1e-4)


def test_log_probs_are_of_the_distribution_that_the_samples_are_drawn_from(
    learner: DeepSpeedLearner, model: PretrainedLM, model_folder: Path
) -> None:
    """At temperature 0.7 the engine's log-probs are of softmax(logits / 0.7); the learner's ratio to them must be 1."""
    learner.reset(model_folder, OPTIMIZER, 10, 0.7)
    found, reference = learner.token_logprobs(SAMPLES), learner.reference_logprobs(SAMPLES)
    sampled = []
    for sample, ours, first in zip(SAMPLES, found, reference, strict=True):
        ids = torch.from_numpy(sample.token_ids.astype(np.int64))[None]
        with torch.no_grad():
            row = torch.log_softmax(model.lm(ids).logits[0, :-1] / 0.7, -1).gather(1, ids[0, 1:, None])[:, 0].numpy()
        assert np.allclose(ours[1:], row, atol=1e-5)
        assert np.allclose(first[1:], row, atol=1e-4)
        sampled.append(replace(sample, rollout_logprobs=np.append(np.float32(0), row) * sample.loss_mask))
    metrics = learner.train_step(sampled, LossSpec("clip_higher"))
    assert metrics["ratio"] == pytest.approx(1, abs=1e-4)
    assert metrics["logprob_gap_max"] < 1e-4
    learner.reset(model_folder, OPTIMIZER, 10)
    assert max(float(np.abs(a - b).max()) for a, b in zip(found, learner.token_logprobs(SAMPLES), strict=True)) > 0.1


async def test_the_penalty_pulls_back_to_the_first_policy(learner: DeepSpeedLearner) -> None:
    """Four steps of fine-tuning move the policy away; then rewards without spread, so that only the penalty acts."""
    group = make_group([1, 1])
    config = GRPOConfig(ratio_to="learner", kl_coefficient=1.0, max_response_tokens=4)
    for _ in range(4):
        learner.train_step(flatten_group(group, ADVANTAGES["leave_one_out"]), LossSpec("cross_entropy"))
    gaps = [(await update_policy(config, OneRank(learner), [group]))["kl_reference"] for _ in range(12)]
    assert max(gaps) > 0.01
    assert gaps[-1] < max(gaps) / 2


async def test_without_penalty_nothing_pulls_back(learner: DeepSpeedLearner) -> None:
    group = make_group([1, 1])
    metrics = await update_policy(GRPOConfig(ratio_to="learner"), OneRank(learner), [group])
    assert (metrics["skipped"], metrics["loss"]) == (1, 0)


async def test_later_updates_of_a_batch_are_off_policy_by_the_earlier_ones(learner: DeepSpeedLearner) -> None:
    config = GRPOConfig(ratio_to="learner", updates_per_batch=2, max_response_tokens=4)
    metrics = await update_policy(config, OneRank(learner), [uneven_group(), uneven_group()])
    assert (metrics["step"], metrics["samples"]) == (2, 4)
    assert abs(metrics["ratio"] - 1) > 1e-6


@pytest.mark.parametrize("loss", ["clip_higher", "cispo"])
async def test_a_rewarded_trajectory_becomes_likelier(learner: DeepSpeedLearner, loss: str) -> None:
    samples = flatten_group(uneven_group(), ADVANTAGES["leave_one_out"])
    before = [float(row.sum()) for row in learner.token_logprobs(samples)]
    for _ in range(3):
        await update_policy(GRPOConfig(ratio_to="learner", loss=loss), OneRank(learner), [uneven_group()])
    good, bad = [float(row.sum()) - was for row, was in zip(learner.token_logprobs(samples), before, strict=True)]
    assert good > bad + 0.01
