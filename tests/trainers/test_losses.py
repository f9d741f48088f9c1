"""Losses: exact values, signs, what is masked, and peers' numbers."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.trainers.golden_vectors import golden_cases
from tests.trainers.training_doubles import largest_difference, loss_and_gradient, make_sample
from trainers.loss_spec import LossSpec
from trainers.losses import LOSSES
from trainers.pretrained_lm import PretrainedLM
from trainers.train_sample import TrainSample

POLICY = LossSpec("clip_higher", max_response_tokens=100)
SFT = LossSpec("cross_entropy", context_loss_weight=0.1)


@pytest.mark.parametrize(("advantage", "ratio", "expected"), [(1, 1.5, -1.28), (1, 0.5, -0.5), (-1, 0.5, 0.8), (-1, 1.5, 1.5)])
def test_clip_literals(advantage: float, ratio: float, expected: float) -> None:
    loss = LOSSES["clip_higher"](POLICY).token_losses(
        torch.tensor([ratio]).log(), torch.zeros(1), torch.tensor([float(advantage)])
    )
    assert loss.tolist() == pytest.approx([expected], abs=1e-6)


def test_clip_fractions_count_only_tokens_whose_gradient_was_cut() -> None:
    ratios, advantages = torch.tensor([1.5, 1.5, 0.5, 0.5]), torch.tensor([1.0, -1.0, 1.0, -1.0])
    metrics = LOSSES["clip_higher"](POLICY).token_metrics(ratios.log(), torch.zeros(4), advantages, torch.ones(4))
    assert metrics["clip_fraction_high"].tolist() == [1, 0, 0, 0]
    assert metrics["clip_fraction_low"].tolist() == [0, 0, 0, 1]


def flat_sample(length: int, trained: int, advantage: float) -> TrainSample:
    mask = np.zeros(length, np.int8)
    mask[length - trained :] = 1
    zeros = np.zeros(length, np.float32)
    return TrainSample(
        np.ones(length, np.int32), mask, zeros, (mask * advantage).astype(np.float32), np.zeros(length, np.int32), "t"
    )


def test_aggregation_divides_by_the_constant_and_averages_over_trajectories() -> None:
    """10 and 1,000 tokens of token loss -1 with L_max 102,400: -(10 + 1000) / 102,400 / 2."""
    loss = LOSSES["clip_higher"](LossSpec("clip_higher", max_response_tokens=102_400))
    samples = [flat_sample(20, 10, 1.0), flat_sample(1010, 1000, 1.0)]
    total = sum(float((-1.0 * loss.weights(sample)).sum(dtype=np.float64)) for sample in samples)
    assert total / sum(loss.normaliser(sample) for sample in samples) == pytest.approx(-0.004932, abs=1e-6)


def test_a_sample_without_trained_tokens_is_not_counted() -> None:
    masked = flat_sample(5, 0, 0.0)
    assert LOSSES["clip_higher"](POLICY).normaliser(masked) == 0
    assert not LOSSES["clip_higher"](POLICY).weights(masked).any()


def test_zero_advantage_counts_but_is_not_computed() -> None:
    quiet = flat_sample(5, 3, 0.0)
    assert LOSSES["clip_higher"](POLICY).normaliser(quiet) == 1
    assert not LOSSES["clip_higher"](POLICY).weights(quiet).any()


def test_cross_entropy_weights_literals() -> None:
    loss = LOSSES["cross_entropy"](SFT)
    sample = flat_sample(4, 2, 1.0)
    assert loss.weights(sample).tolist() == pytest.approx([0, 0.1, 1, 1])
    assert loss.normaliser(sample) == pytest.approx(2.1)
    assert LOSSES["cross_entropy"](LossSpec("cross_entropy")).weights(sample).tolist() == [0, 0, 1, 1]


def on_policy(model: PretrainedLM, sample: TrainSample) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of the trained tokens and their log-probs, by a plain forward pass."""
    ids = torch.from_numpy(sample.token_ids.astype(np.int64))[None]
    with torch.no_grad():
        logprobs = torch.log_softmax(model.lm(ids).logits[0, :-1], dim=-1)
    trained = torch.from_numpy(np.flatnonzero(sample.loss_mask))
    return trained, logprobs[trained - 1, ids[0, trained]]


@pytest.mark.parametrize(("advantage", "rises"), [(1.0, True), (-1.0, False)])
def test_an_advantage_moves_the_tokens_logprob_its_way(model: PretrainedLM, advantage: float, rises: bool) -> None:
    sample = make_sample(np.random.default_rng(1), 30, advantage=advantage)
    trained, before = on_policy(model, sample)
    logprobs = np.zeros(30, np.float32)
    logprobs[trained.numpy()] = before.numpy()
    _, gradient = loss_and_gradient(model, [replace(sample, rollout_logprobs=logprobs)], POLICY, 1000)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter -= 0.05 * gradient[name]
    _, after = on_policy(model, sample)
    assert (float(after.sum()) > float(before.sum())) == rises
    assert abs(float(after.sum() - before.sum())) > 1e-4


@pytest.mark.parametrize("spec", [POLICY, SFT], ids=lambda spec: spec.name)
def test_nan_at_masked_positions_changes_neither_loss_nor_gradient(model: PretrainedLM, spec: LossSpec) -> None:
    sample = make_sample(np.random.default_rng(2), 40)
    masked = sample.loss_mask == 0
    poisoned = replace(
        sample,
        rollout_logprobs=np.where(masked, np.nan, sample.rollout_logprobs).astype(np.float32),
        advantages=np.where(masked, 0 if spec is POLICY else np.nan, sample.advantages).astype(np.float32),
    )
    clean_loss, clean = loss_and_gradient(model, [sample], spec, 1000)
    loss, gradient = loss_and_gradient(model, [poisoned], spec, 1000)
    assert loss == clean_loss
    assert largest_difference(clean, gradient) == 0


def test_a_masked_token_has_no_gradient(model: PretrainedLM) -> None:
    """The loss on the masked last token: changing that token changes nothing."""
    sample = make_sample(np.random.default_rng(3), 40)
    mask = sample.loss_mask.copy()
    mask[-1] = 0
    first = replace(sample, loss_mask=mask, advantages=sample.advantages * mask, rollout_logprobs=sample.rollout_logprobs * mask)
    other_ids = first.token_ids.copy()
    other_ids[-1] = (other_ids[-1] + 7) % 300
    _, gradient = loss_and_gradient(model, [first], POLICY, 1000)
    _, other = loss_and_gradient(model, [replace(first, token_ids=other_ids)], POLICY, 1000)
    assert largest_difference(gradient, other) < 1e-6


@pytest.mark.parametrize("aggregation", ["seq-mean-token-sum-norm", "seq-mean-token-sum"])
def test_golden_loss_and_gradient(aggregation: str) -> None:
    """Peers divide by the padded width; our L_max is that width, or 1 where they do not divide."""
    for case in golden_cases():
        mask = torch.tensor(case["loss_mask"])
        rows, width = mask.shape
        spec = LossSpec("clip_higher", max_response_tokens=width if aggregation.endswith("norm") else 1)
        loss = LOSSES["clip_higher"](spec)
        policy = torch.tensor(case["policy_logprobs"], dtype=torch.float64, requires_grad=True)
        old = torch.tensor(case["old_logprobs"], dtype=torch.float64)
        advantages = torch.tensor(case["advantages"]["leave_one_out"], dtype=torch.float64)[:, None].expand(rows, width)
        samples = [
            flat_sample_with_mask(np.array(row), float(advantage[0]))
            for row, advantage in zip(case["loss_mask"], advantages, strict=True)
        ]
        weights = torch.tensor(np.array([loss.weights(sample) for sample in samples], dtype=np.float64))
        normaliser = sum(loss.normaliser(sample) for sample in samples)
        total = (loss.token_losses(policy, old, advantages) * weights).sum() / normaliser
        total.backward()
        expected = case["losses_with_leave_one_out"][f"clip_higher/{aggregation}"]
        assert total.item() == pytest.approx(expected["loss"], abs=1e-6)
        assert policy.grad is not None
        assert torch.allclose(policy.grad, torch.tensor(expected["grad"], dtype=torch.float64), atol=1e-6)


def test_golden_k3() -> None:
    """Our `kl` is k3 with the sampling policy first; the file's has the roles of its two policies the other way round."""
    for case in golden_cases():
        old, policy = torch.tensor(case["old_logprobs"]), torch.tensor(case["policy_logprobs"])
        kl = LOSSES["clip_higher"](POLICY).token_metrics(old, policy, torch.zeros_like(old), torch.ones_like(old))["kl"]
        assert torch.allclose(kl * torch.tensor(case["loss_mask"]), torch.tensor(case["k3"]), atol=2e-6)


def flat_sample_with_mask(mask: np.ndarray, advantage: float) -> TrainSample:
    ones, zeros = np.ones(len(mask), np.int32), np.zeros(len(mask), np.float32)
    return TrainSample(ones, mask.astype(np.int8), zeros, (mask * advantage).astype(np.float32), ones, "t")
