"""How token losses become one number: literals."""

import numpy as np
import pytest

from trainers.loss_aggregation import AGGREGATIONS, sample_normaliser, token_weights
from trainers.loss_spec import LossSpec
from trainers.train_sample import TrainSample


def sample_of(mask: list[int], advantages: list[float]) -> TrainSample:
    zeros = np.zeros(len(mask), np.int32)
    logprobs = np.zeros(len(mask), np.float32)
    return TrainSample(zeros, np.array(mask, np.int8), logprobs, np.array(advantages, np.float32), zeros, "task")


@pytest.mark.parametrize(
    ("name", "weights", "normaliser"),
    [
        ("seq-mean-token-sum-norm", [0, 0.1, 0.1, 0], 1),
        ("seq-mean-token-sum", [0, 1, 1, 0], 1),
        ("seq-mean-token-mean", [0, 1 / 3, 1 / 3, 0], 1),
        ("token-mean", [0, 1, 1, 0], 3),
    ],
)
def test_weights_and_normaliser(name: str, weights: list[float], normaliser: float) -> None:
    """Three trained tokens, the last of advantage 0: counted, not computed. L_max is 10."""
    spec = LossSpec("clip_higher", max_response_tokens=10, aggregation=name)
    sample = sample_of([0, 1, 1, 1], [0, 2, 2, 0])
    assert token_weights(spec, sample).tolist() == pytest.approx(weights)
    assert sample_normaliser(spec, sample) == normaliser


@pytest.mark.parametrize("name", sorted(AGGREGATIONS))
def test_a_sample_without_trained_tokens_adds_nothing(name: str) -> None:
    spec = LossSpec("clip_higher", aggregation=name)
    assert token_weights(spec, sample_of([0, 0], [1, 1])).tolist() == [0, 0]
    assert sample_normaliser(spec, sample_of([0, 0], [1, 1])) == 0


def total(name: str, lengths: list[int]) -> float:
    """The step's loss when every trained token's loss is -1."""
    spec = LossSpec("clip_higher", max_response_tokens=102_400, aggregation=name)
    samples = [sample_of([1] * length, [1.0] * length) for length in lengths]
    summed = sum(float(-token_weights(spec, sample).sum(dtype=np.float64)) for sample in samples)
    return summed / sum(sample_normaliser(spec, sample) for sample in samples)


def test_two_rows_of_10_and_1000_tokens() -> None:
    """-(10 + 1000) / 102,400 / 2 with the constant; -1 with either mean."""
    assert total("seq-mean-token-sum-norm", [10, 1000]) == pytest.approx(-0.004932, abs=1e-6)
    assert total("seq-mean-token-sum", [10, 1000]) == pytest.approx(-505)
    assert total("seq-mean-token-mean", [10, 1000]) == pytest.approx(-1)
    assert total("token-mean", [10, 1000]) == pytest.approx(-1)
