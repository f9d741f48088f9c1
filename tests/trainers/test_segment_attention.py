"""Attention inside samples only, checked against a block mask."""

import pytest
import torch

from trainers.segment_attention import segment_attention


def test_equals_attention_under_a_block_causal_mask() -> None:
    torch.manual_seed(0)
    lengths = [3, 1, 5]
    query = torch.randn(1, 4, 9, 8, requires_grad=True)
    key, value = torch.randn(1, 2, 9, 8, requires_grad=True), torch.randn(1, 2, 9, 8, requires_grad=True)
    owner = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    mask = (owner[:, None] == owner[None]) & torch.ones(9, 9, dtype=torch.bool).tril()
    wide_key, wide_value = key.repeat_interleave(2, 1), value.repeat_interleave(2, 1)
    scores = (query @ wide_key.transpose(2, 3) * 0.3).masked_fill(~mask, -torch.inf)
    expected = (scores.softmax(-1) @ wide_value).transpose(1, 2)
    found, _ = segment_attention(torch.nn.Identity(), query, key, value, None, scaling=0.3, segment_lengths=lengths)
    assert torch.allclose(found, expected, atol=1e-6)
    direction = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (query, key, value), direction, retain_graph=True),
        torch.autograd.grad(expected, (query, key, value), direction),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, atol=1e-5)


def test_what_it_would_ignore_is_refused() -> None:
    row = torch.zeros(1, 1, 4, 8)
    with pytest.raises(ValueError, match="segments of 3 tokens over a row of 4"):
        segment_attention(torch.nn.Identity(), row, row, row, None, segment_lengths=[3])
    with pytest.raises(ValueError, match="neither masks nor sliding windows"):
        segment_attention(torch.nn.Identity(), row, row, row, None, sliding_window=2)
    with pytest.raises(ValueError, match="neither masks nor sliding windows"):
        segment_attention(torch.nn.Identity(), row, row, row, torch.ones(4, 4))
