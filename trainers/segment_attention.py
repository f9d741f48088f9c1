"""Causal attention over packed rows: each sample attends to itself only, without a mask of the whole row.

Registered with transformers under one name and used on every device. Each sample is one call of torch's fused attention, so
the cost is the sum of the samples' own costs (a block mask over the row would cost the square of the row).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

ATTENTION_NAME = "swe_segments"


def segment_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    segment_lengths: Sequence[int] = (),
    **ignored: Any,
) -> tuple[torch.Tensor, None]:
    """Query (1, heads, T, D), key and value (1, key heads, T, D) to (1, T, heads, D).

    `segment_lengths` are the samples' lengths in their order, with sum T; empty: one sample. There is no dropout: log-probs
    must be those of the policy. Raises ValueError for sliding windows and for masks, which it would ignore.
    """
    if attention_mask is not None or ignored.get("sliding_window") is not None:
        raise ValueError("packed attention knows neither masks nor sliding windows")
    lengths = list(segment_lengths) or [query.shape[2]]
    if sum(lengths) != query.shape[2]:
        raise ValueError(f"segments of {sum(lengths)} tokens over a row of {query.shape[2]}")
    shared = query.shape[1] != key.shape[1]
    parts = [
        scaled_dot_product_attention(q, k, v, scale=scaling, is_causal=True, enable_gqa=shared)
        for q, k, v in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    ]
    whole = parts[0] if len(parts) == 1 else torch.cat(parts, 2)
    return whole.transpose(1, 2).contiguous(), None


def register_attention(name: str, function: Callable[..., Any]) -> None:
    """Let transformers' models use `function` under `name`; asked again, the newer one counts."""
    AttentionInterface.register(name, function)


register_attention(ATTENTION_NAME, segment_attention)
