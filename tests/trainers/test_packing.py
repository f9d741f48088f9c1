"""Packing: literal tensors, and the same loss and gradient however the samples are split (speed: benchmarks/learner_speed.py)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.trainers.training_doubles import largest_difference, loss_and_gradient, make_sample
from trainers.loss_spec import LossSpec
from trainers.packing import pack
from trainers.pretrained_lm import PretrainedLM
from trainers.train_sample import TrainSample

SPECS = [LossSpec("clip_higher", max_response_tokens=100), LossSpec("cross_entropy", context_loss_weight=0.2)]


def literal_sample(ids: list[int], mask: list[int], logprobs: list[float], advantage: float) -> TrainSample:
    on = np.array(mask, np.int8)
    return TrainSample(
        np.array(ids, np.int32),
        on,
        np.array(logprobs, np.float32),
        (on * np.float32(advantage)).astype(np.float32),
        on.astype(np.int32),
        "t",
    )


def test_pack_literal() -> None:
    short = literal_sample([5, 6, 7], [0, 0, 1], [0, 0, -0.5], 2.0)
    long = literal_sample([1, 2, 3, 4], [0, 1, 0, 1], [0, -0.1, 0, -0.2], -1.0)
    (batch,) = pack([short, long], 8, lambda sample: sample.loss_mask / np.float32(4))
    assert batch.token_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7]]
    assert batch.position_ids.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert batch.lengths == (4, 3)
    assert batch.sample_indices == (1, 0)
    assert batch.predicted.tolist() == [1, 3, 6]
    assert batch.targets.tolist() == [2, 4, 7]
    assert batch.rollout_logprobs.tolist() == pytest.approx([-0.1, -0.2, -0.5])
    assert batch.advantages.tolist() == [-1, -1, 2]
    assert batch.weights.tolist() == [0.25, 0.25, 0.25]
    assert batch.loss_mask.tolist() == [1, 1, 1]


def test_a_first_token_is_never_predicted() -> None:
    assert pack([literal_sample([5], [1], [-1], 1.0)], 8, lambda sample: sample.loss_mask.astype(np.float32)) == []


def test_a_given_plan_is_followed_and_samples_without_weight_are_left_out() -> None:
    samples = [literal_sample([1, 2], [0, 1], [0, -1], 1.0), literal_sample([3, 4], [0, 0], [0, 0], 0.0)] * 2
    batches = pack(samples, 100, lambda sample: sample.loss_mask.astype(np.float32), [[2, 1], [0], [3]])
    assert [batch.sample_indices for batch in batches] == [(2,), (0,)]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_one_by_one_equals_packed(model: PretrainedLM, spec: LossSpec) -> None:
    rng = np.random.default_rng(0)
    samples = [make_sample(rng, int(length)) for length in rng.integers(4, 60, 9)]
    one_by_one_loss, one_by_one = loss_and_gradient(model, samples, spec, 1)
    for budget in (100, 10_000):
        loss, gradient = loss_and_gradient(model, samples, spec, budget)
        assert loss == pytest.approx(one_by_one_loss, rel=1e-5)
        assert largest_difference(one_by_one, gradient) < 1e-5


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_the_order_of_samples_does_not_matter(model: PretrainedLM, spec: LossSpec) -> None:
    rng = np.random.default_rng(1)
    samples = [make_sample(rng, int(length)) for length in rng.integers(4, 40, 6)]
    loss, gradient = loss_and_gradient(model, samples, spec, 80)
    other_loss, other = loss_and_gradient(model, samples[::-1], spec, 80)
    assert other_loss == pytest.approx(loss, rel=1e-5)
    assert largest_difference(gradient, other) < 1e-5


def test_no_token_sees_another_sample_or_padding(model: PretrainedLM) -> None:
    rng = np.random.default_rng(2)
    first, second = make_sample(rng, 30), make_sample(rng, 20)
    other = make_sample(rng, 30)

    def logprobs_of_second(neighbour: TrainSample) -> torch.Tensor:
        (batch,) = pack([neighbour, second], 100, lambda sample: sample.loss_mask.astype(np.float32))
        return model(batch)[batch.predicted >= 30]

    assert torch.equal(logprobs_of_second(first), logprobs_of_second(other))


def test_packed_logprobs_are_those_transformers_gives_each_sample_alone(model: PretrainedLM, model_folder: Path) -> None:
    rng = np.random.default_rng(3)
    samples = [make_sample(rng, int(length)) for length in (17, 40, 5)]
    plain = AutoModelForCausalLM.from_pretrained(model_folder, attn_implementation="eager")
    (batch,) = pack(samples, 100, lambda sample: np.ones(len(sample.token_ids), np.float32))
    with torch.no_grad():
        found = model(batch).split([length - 1 for length in batch.lengths])
        for index, values in zip(batch.sample_indices, found, strict=True):
            ids = torch.from_numpy(samples[index].token_ids.astype(np.int64))
            expected = torch.log_softmax(plain(ids[None]).logits[0, :-1], -1).gather(1, ids[1:, None])[:, 0]
            assert torch.allclose(values, expected, atol=1e-5)
