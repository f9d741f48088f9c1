"""Weights between learner and engine, and the divergence from the first policy: literals and invariances."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.grpo_config import GRPOConfig
from tests.trainers.training_doubles import make_sample
from trainers.importance_weights import (
    IMPORTANCE_WEIGHTS,
    BandPass,
    ImportanceWeight,
    SequenceTruncated,
    TokenTruncated,
    log_weights,
    with_learner_logprobs,
)
from trainers.kl_penalty import k3, k3_gradient, with_kl_penalty
from trainers.loss_spec import LossSpec
from trainers.losses import LOSSES
from trainers.token_rows import token_rows

ON = np.array([True, True, False])


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        (TokenTruncated(2.0), [0.5, 2.0, 0]),
        (SequenceTruncated(2.0), [1.5, 1.5, 0]),
        (SequenceTruncated(1.2), [1.2, 1.2, 0]),
        (BandPass(0.4, 3.5), [0.5, 3.0, 0]),
        (BandPass(0.8, 2.0), [0, 0, 0]),
    ],
)
def test_literals(weight: ImportanceWeight, expected: list[float]) -> None:
    """w = 0.5 and 3 on trained tokens, 1 on a masked one."""
    assert weight(np.log([0.5, 3.0, 1.0]), ON).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", sorted(IMPORTANCE_WEIGHTS))
@settings(deadline=None, max_examples=50)
@given(gaps=st.lists(st.floats(-4, 4), min_size=1, max_size=10), seed=st.integers(0, 99))
def test_every_weight_is_bounded_and_zero_where_masked(name: str, gaps: list[float], seed: int) -> None:
    config = GRPOConfig(importance_cap=2.0, importance_band=(0.5, 5.0))
    mask = np.random.default_rng(seed).random(len(gaps)) < 0.6
    factors = IMPORTANCE_WEIGHTS[name](config)(np.where(mask, gaps, 0.0), mask)
    assert (factors[~mask] == 0).all()
    assert ((factors >= 0) & (factors <= {"none": 1, "band_pass": 5.0 + 1e-9}.get(name, 2.0))).all()


@pytest.mark.parametrize("name", sorted(IMPORTANCE_WEIGHTS))
def test_engine_and_learner_agree(name: str) -> None:
    sample = make_sample(np.random.default_rng(0), 20, advantage=0.7)
    weight = IMPORTANCE_WEIGHTS[name](GRPOConfig())
    (same,), metrics = with_learner_logprobs([sample], [sample.rollout_logprobs], weight)
    assert np.allclose(same.advantages, sample.advantages)
    assert metrics == {
        "importance/mean": 1.0, "importance/changed": 0.0, "importance/zero": 0.0, "logprob_gap": 0.0, "logprob_gap_max": 0.0,
    }  # fmt: skip


def test_the_ratio_is_then_to_the_learner_and_the_weight_is_in_the_advantage() -> None:
    sample = make_sample(np.random.default_rng(0), 20, advantage=1.0)
    mask = sample.loss_mask == 1
    learner = sample.rollout_logprobs + np.float32(np.log(3.0))
    (changed,), metrics = with_learner_logprobs([sample], [learner], TokenTruncated(2.0))
    assert np.allclose(changed.rollout_logprobs[mask], learner[mask])
    assert np.allclose(changed.advantages, 2.0 * mask, atol=1e-5)
    assert metrics["importance/mean"] == pytest.approx(2.0)
    assert metrics["importance/changed"] == 1.0
    assert metrics["logprob_gap"] == pytest.approx(np.log(3.0), abs=1e-5)


def test_nan_at_masked_positions_changes_nothing() -> None:
    sample = make_sample(np.random.default_rng(1), 30)
    masked = sample.loss_mask == 0
    learner = np.where(masked, 0, sample.rollout_logprobs + 0.3).astype(np.float32)
    poisoned = replace(
        sample,
        rollout_logprobs=np.where(masked, np.nan, sample.rollout_logprobs).astype(np.float32),
        advantages=np.where(masked, np.nan, sample.advantages).astype(np.float32),
    )
    nan = np.where(masked, np.nan, learner).astype(np.float32)
    for weight in (TokenTruncated(2.0), SequenceTruncated(2.0), BandPass(0.5, 5.0)):
        (clean,), first = with_learner_logprobs([sample], [learner], weight)
        (dirty,), second = with_learner_logprobs([poisoned], [nan], weight)
        assert np.array_equal(clean.advantages, dirty.advantages)
        assert np.array_equal(clean.rollout_logprobs, dirty.rollout_logprobs)
        assert first == second
        penalised, _ = with_kl_penalty([clean], [learner], 0.1)
        from_dirty, _ = with_kl_penalty([dirty], [nan], 0.1)
        assert np.array_equal(penalised[0].advantages, from_dirty[0].advantages)


def test_log_weights_are_clamped() -> None:
    assert log_weights(np.array([0.0, 0.0]), np.array([-500.0, -np.inf]), np.array([True, True])).tolist() == [20.0, 20.0]


def test_no_samples() -> None:
    assert with_learner_logprobs([], [], TokenTruncated(2.0)) == ([], {})
    assert with_kl_penalty([], [], 0.1) == ([], {})


@settings(deadline=None)
@given(policy=st.floats(-5, 0), reference=st.floats(-5, 0))
def test_k3_is_never_negative_and_its_gradient_is_its_slope(policy: float, reference: float) -> None:
    p, r, step = np.array([policy]), np.array([reference]), 1e-5
    assert k3(p, r)[0] >= 0
    slope = (k3(p + step, r) - k3(p - step, r)) / (2 * step)
    assert k3_gradient(p, r) == pytest.approx(slope, rel=1e-4, abs=1e-4)


def test_k3_literal() -> None:
    assert k3(np.array([-1.0]), np.array([-1.0 + np.log(2)]))[0] == pytest.approx(1 - np.log(2))


@pytest.mark.parametrize("name", ["clip_higher", "cispo"])
def test_the_penalty_in_the_advantages_is_the_penalty_in_the_loss(name: str) -> None:
    """Gradient of policy loss + 0.05 k3 by autograd, against the policy loss of the changed advantages."""
    sample = make_sample(np.random.default_rng(2), 30, advantage=0.4)
    on = np.flatnonzero(sample.loss_mask)
    reference = (sample.rollout_logprobs + np.random.default_rng(3).normal(0, 0.5, 30)).astype(np.float32)
    loss = LOSSES[name](LossSpec(name))
    old = torch.from_numpy(sample.rollout_logprobs[on].astype(np.float64))
    ref = torch.from_numpy(reference[on].astype(np.float64))

    direct = old.clone().requires_grad_()
    penalty = torch.exp(ref - direct) - 1 - (ref - direct)
    (loss.token_losses(direct, old, torch.full_like(old, 0.4)) + 0.05 * penalty).sum().backward()

    (changed,), metrics = with_kl_penalty([sample], [reference], 0.05)
    folded = old.clone().requires_grad_()
    loss.token_losses(folded, old, torch.from_numpy(changed.advantages[on].astype(np.float64))).sum().backward()
    assert direct.grad is not None
    assert folded.grad is not None
    assert torch.allclose(direct.grad, folded.grad, atol=1e-6)
    assert metrics["kl_reference"] == pytest.approx(float(penalty.detach().mean()), rel=1e-5)


def test_token_rows() -> None:
    assert token_rows(torch.tensor([1, 2, 3, 6, 7]), (3, 4, 1)).tolist() == [0, 0, 1, 1, 2]
    assert token_rows(torch.tensor([], dtype=torch.int64), (3,)).tolist() == []
