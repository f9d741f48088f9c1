"""Losses: exact values, signs, what is masked, invariances (peers' numbers: test_golden_check)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.training_doubles import largest_difference, loss_and_gradient, make_sample
from trainers.loss_aggregation import AGGREGATIONS
from trainers.loss_spec import POLICY_LOSSES, LossSpec
from trainers.losses import LOSSES
from trainers.pretrained_lm import PretrainedLM
from trainers.train_sample import TrainSample

POLICY = LossSpec("clip_higher", max_response_tokens=100)
OTHERS = [LossSpec("gspo", 3e-4, 4e-4, aggregation="seq-mean-token-mean"), LossSpec("cispo", aggregation="token-mean")]
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


@pytest.mark.parametrize("spec", [POLICY, *OTHERS, SFT], ids=lambda spec: spec.name)
def test_nan_at_masked_positions_changes_neither_loss_nor_gradient(model: PretrainedLM, spec: LossSpec) -> None:
    sample = make_sample(np.random.default_rng(2), 40)
    masked = sample.loss_mask == 0
    poisoned = replace(
        sample,
        rollout_logprobs=np.where(masked, np.nan, sample.rollout_logprobs).astype(np.float32),
        advantages=np.where(masked, np.nan, sample.advantages).astype(np.float32),
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


def test_policy_losses_are_those_a_config_can_name() -> None:
    assert set(POLICY_LOSSES) == set(LOSSES) - {"cross_entropy"}


@pytest.mark.parametrize(("advantage", "ratio", "slope"), [(1, 1.5, -1.28), (1, 0.5, -0.8), (-1, 0.5, 0.8), (-1, 1.5, 1.28)])
def test_cispo_clips_the_weight_and_never_the_gradient(advantage: float, ratio: float, slope: float) -> None:
    policy = torch.tensor([ratio]).log().requires_grad_()
    LOSSES["cispo"](LossSpec("cispo")).token_losses(policy, torch.zeros(1), torch.tensor([float(advantage)])).sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == pytest.approx([slope], abs=1e-6)


def test_gspo_takes_one_ratio_a_trajectory() -> None:
    """Two trajectories: log ratios 0.2 and -0.1 (mean 0.05), and 0.3."""
    policy = torch.tensor([0.2, -0.1, 0.3], requires_grad=True)
    loss = LOSSES["gspo"](LossSpec("gspo", 1.0, 1.0))
    losses = loss.token_losses(policy, torch.zeros(3), torch.tensor([1.0, 1.0, -1.0]), torch.tensor([0, 0, 1]))
    assert losses.tolist() == pytest.approx([-np.exp(0.05), -np.exp(0.05), np.exp(0.3)], abs=1e-6)
    losses.sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == pytest.approx([-np.exp(0.05), -np.exp(0.05), np.exp(0.3)], abs=1e-6)


def test_gspo_clips_the_whole_trajectory() -> None:
    """Mean log ratio 0.05 is beyond 1 + 4e-4: no token of the trajectory keeps a gradient, though one is below 1."""
    policy = torch.tensor([0.2, -0.1], requires_grad=True)
    loss = LOSSES["gspo"](LossSpec("gspo", 3e-4, 4e-4))
    rows, ones = torch.tensor([0, 0]), torch.ones(2)
    loss.token_losses(policy, torch.zeros(2), ones, rows).sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == [0, 0]
    metrics = loss.token_metrics(policy.detach(), torch.zeros(2), ones, ones, rows)
    assert metrics["clip_fraction_high"].tolist() == [1, 1]
    assert metrics["sequence_ratio"].tolist() == pytest.approx([np.exp(0.05)] * 2)


def test_gspo_says_what_it_lacks() -> None:
    with pytest.raises(ValueError, match="rows"):
        LOSSES["gspo"](LossSpec("gspo")).token_losses(torch.zeros(1), torch.zeros(1), torch.zeros(1))


def test_gspo_keeps_the_tokens_its_ratio_needs() -> None:
    """A band-pass weight has set one advantage to 0: its token still enters the trajectory's ratio, and loses nothing."""
    sample = flat_sample(5, 3, 1.0)
    sample = replace(sample, advantages=np.array([0, 0, 1, 0, 1], np.float32))
    assert (LOSSES["gspo"](LossSpec("gspo", aggregation="seq-mean-token-mean")).weights(sample) > 0).tolist() == [0, 0, 1, 1, 1]
    assert (LOSSES["cispo"](LossSpec("cispo")).weights(sample) > 0).tolist() == [0, 0, 1, 0, 1]


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_an_overflowing_ratio_stays_finite(name: str) -> None:
    policy = torch.tensor([0.0, -1.0], requires_grad=True)
    rollout, rows = torch.tensor([-500.0, -torch.inf]), torch.tensor([0, 1])
    losses = LOSSES[name](LossSpec(name)).token_losses(policy, rollout, -torch.ones(2), rows)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert policy.grad is not None
    assert torch.isfinite(policy.grad).all()


finite = st.floats(-3, 0, allow_nan=False, width=32)


@pytest.mark.parametrize("name", POLICY_LOSSES)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_no_gradient_has_the_sign_of_its_advantage(name: str, data: st.DataObject) -> None:
    """Minimising never lowers the log-prob of a token with a positive advantage, nor raises that of a negative one."""
    size = data.draw(st.integers(1, 8))
    draw = [torch.tensor(data.draw(st.lists(finite, min_size=size, max_size=size))) for _ in range(2)]
    rows = torch.tensor(sorted(data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))))
    advantages = torch.tensor(data.draw(st.lists(st.sampled_from([-1.0, -0.3, 0.0, 0.5, 2.0]), min_size=3, max_size=3)))[rows]
    policy = draw[0].clone().requires_grad_()
    LOSSES[name](LossSpec(name)).token_losses(policy, draw[1], advantages, rows).sum().backward()
    assert policy.grad is not None
    assert (policy.grad * advantages <= 0).all()
    assert (policy.grad[advantages == 0] == 0).all()


@pytest.mark.parametrize("name", POLICY_LOSSES)
def test_on_policy_all_losses_are_the_plain_policy_gradient(name: str) -> None:
    policy = torch.tensor([-0.5, -1.0, -2.0], requires_grad=True)
    advantages = torch.tensor([1.0, 1.0, -0.5])
    LOSSES[name](LossSpec(name)).token_losses(policy, policy.detach(), advantages, torch.tensor([0, 0, 1])).sum().backward()
    assert policy.grad is not None
    assert policy.grad.tolist() == [-1.0, -1.0, 0.5]


@pytest.mark.parametrize(
    "spec",
    [
        *(LossSpec("clip_higher", max_response_tokens=50, aggregation=name) for name in sorted(AGGREGATIONS)),
        LossSpec("gspo", 3e-4, 4e-4, aggregation="seq-mean-token-mean"),
        LossSpec("cispo", aggregation="token-mean"),
    ],
    ids=lambda spec: f"{spec.name}-{spec.aggregation}",
)
def test_splitting_a_step_leaves_the_gradient_equal(model: PretrainedLM, spec: LossSpec) -> None:
    """Samples of uneven length in one micro-batch, in several, and one by one."""
    rng = np.random.default_rng(5)
    samples = [make_sample(rng, length) for length in (12, 40, 25, 7)]
    whole, expected = loss_and_gradient(model, samples, spec, 1000)
    for budget in (45, 1):
        loss, gradient = loss_and_gradient(model, samples, spec, budget)
        assert loss == pytest.approx(whole, abs=1e-5)
        assert largest_difference(expected, gradient) < 1e-4
