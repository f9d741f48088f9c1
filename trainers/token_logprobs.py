"""Log-probs of given tokens from hidden states, without holding the logits of all positions at once."""

from collections.abc import Callable

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

LOGITS_PER_CHUNK = 1 << 26
"""Logits held at once (64 M floats, 256 MiB)."""


def token_logprobs(
    hidden_NH: torch.Tensor,
    targets_N: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor],
    vocab_size: int,
    logits_per_chunk: int = LOGITS_PER_CHUNK,
) -> torch.Tensor:
    """log p(target) of each row, float32 (N,), natural log; `head` maps (n, H) to logits (n, vocab_size).

    With more than one chunk, logits are computed again in the backward pass instead of being kept.
    """

    def chunk_logprobs(hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -functional.cross_entropy(head(hidden).float(), targets, reduction="none")

    rows = max(1, logits_per_chunk // vocab_size)
    if len(targets_N) <= rows:
        return chunk_logprobs(hidden_NH, targets_N)
    chunks = zip(hidden_NH.split(rows), targets_N.split(rows), strict=True)
    return torch.cat([checkpoint(chunk_logprobs, hidden, targets, use_reentrant=False) for hidden, targets in chunks])
