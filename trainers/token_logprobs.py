"""Log-probs of given tokens from hidden states: a linear output layer fused with its cross entropy, in chunks of rows.

The logits of 80,000 tokens over 152,000 words would be 49 GB in float32. Here one chunk of them exists at a time: the forward
pass keeps one number a token (the log of the sum of exponentials), the backward pass computes the chunk's logits again.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

LOGITS_PER_CHUNK = 1 << 26
"""Logits held at once (64 M floats, 256 MiB)."""
VOCABULARY_BLOCK = 8192
"""Words whose weight gradient a half-precision model accumulates at once, in float32."""


class TokenLogprobs(nn.Module):
    """The model's output layer, asked for the log-prob of one given token a row. Holds the layer's own parameter.

    A module of its own, so that ZeRO-3 gathers the weight for its forward and its backward pass. Raises ValueError for an
    output layer with a bias (no supported model has one).
    """

    def __init__(self, head: nn.Module, vocab_size: int) -> None:
        super().__init__()
        if getattr(head, "bias", None) is not None:
            raise ValueError("an output layer with a bias is not supported")
        weight = head.weight
        assert isinstance(weight, nn.Parameter)
        self.weight = weight
        self.vocab_size = vocab_size
        self.temperature = 1.0
        """Logits are divided by it: that of the sampling, where log-probs are compared with a sampler's."""

    def forward(self, hidden_NH: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        return token_logprobs(hidden_NH, targets_N, self.weight, temperature=self.temperature)


def token_logprobs(
    hidden_NH: torch.Tensor,
    targets_N: torch.Tensor,
    weight_VH: torch.Tensor,
    logits_per_chunk: int = LOGITS_PER_CHUNK,
    temperature: float = 1.0,
) -> torch.Tensor:
    """log softmax(hidden weight^T / temperature)[target] of each row, float32 (N,), natural log; differentiable in hidden and
    weight.

    Extra memory: about `4 * logits_per_chunk` bytes (three times that when all rows fit into one chunk, which is faster), and
    with half-precision weights one float32 block of the weight's gradient.
    """
    if targets_N.numel() * weight_VH.shape[0] <= logits_per_chunk:
        return -functional.cross_entropy(_logits(hidden_NH, weight_VH, temperature), targets_N, reduction="none")
    rows = max(1, logits_per_chunk // weight_VH.shape[0])
    return _ChunkedLogprobs.apply(hidden_NH, weight_VH, targets_N, rows, temperature)


class _ChunkedLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, rows: int, temperature: float
    ) -> torch.Tensor:
        log_sums = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        chosen = torch.empty_like(log_sums)
        for start in range(0, len(targets), rows):
            part = slice(start, start + rows)
            logits = _logits(hidden[part], weight, temperature)
            chosen[part] = logits.gather(1, targets[part, None])[:, 0]
            log_sums[part] = _log_sum_exp(logits)
        ctx.save_for_backward(hidden, targets, log_sums)
        ctx.weight = weight  # the parameter itself: ZeRO-3 has gathered it again when backward runs
        ctx.rows, ctx.temperature = rows, temperature
        return chosen - log_sums

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (gradient,) = gradients
        hidden, targets, log_sums = ctx.saved_tensors
        weight, rows, temperature = ctx.weight, ctx.rows, ctx.temperature
        wants_hidden, wants_weight = ctx.needs_input_grad[:2]
        whole_precision = weight.dtype == torch.float32
        hidden_gradient = torch.empty_like(hidden) if wants_hidden else None
        weight_gradient = torch.zeros_like(weight) if wants_weight else None
        for start in range(0, len(targets), rows) if wants_hidden or whole_precision else ():
            part = slice(start, start + rows)
            of_logits = _logit_gradient(hidden[part], weight, targets[part], log_sums[part], gradient[part], 0, temperature)
            if hidden_gradient is not None:
                hidden_gradient[part] = of_logits @ weight
            if weight_gradient is not None and whole_precision:
                weight_gradient.addmm_(of_logits.t(), hidden[part])
        if weight_gradient is not None and not whole_precision:
            _half_precision_weight_gradient(weight_gradient, hidden, weight, targets, log_sums, gradient, rows, temperature)
        return hidden_gradient, weight_gradient, None, None, None


def _half_precision_weight_gradient(
    out: torch.Tensor,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    log_sums: torch.Tensor,
    gradient: torch.Tensor,
    rows: int,
    temperature: float,
) -> None:
    """Sum over all rows in float32, a block of words at a time: adding hundreds of chunks in bfloat16 would lose digits."""
    tall = max(1, rows * weight.shape[0] // VOCABULARY_BLOCK)
    for word in range(0, weight.shape[0], VOCABULARY_BLOCK):
        block = weight[word : word + VOCABULARY_BLOCK]
        total = torch.zeros(block.shape, dtype=torch.float32, device=block.device)
        for start in range(0, len(targets), tall):
            part = slice(start, start + tall)
            of_logits = _logit_gradient(hidden[part], block, targets[part], log_sums[part], gradient[part], word, temperature)
            total += of_logits.t() @ hidden[part]
        out[word : word + VOCABULARY_BLOCK] = total


def _logits(hidden: torch.Tensor, weight: torch.Tensor, temperature: float) -> torch.Tensor:
    logits = functional.linear(hidden, weight).float()
    return logits if temperature == 1 else logits.div_(temperature)


def _log_sum_exp(logits: torch.Tensor) -> torch.Tensor:
    """Row-wise, overwriting `logits`: torch.logsumexp would allocate a second chunk."""
    largest = logits.max(dim=1, keepdim=True).values
    return logits.sub_(largest).exp_().sum(dim=1).log_() + largest[:, 0]


def _logit_gradient(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    log_sums: torch.Tensor,
    gradient: torch.Tensor,
    first_word: int,
    temperature: float,
) -> torch.Tensor:
    """gradient * (one_hot(target) - softmax) / temperature for the words from `first_word` on in `weight`."""
    logits = _logits(hidden, weight, temperature)
    gradient = gradient if temperature == 1 else gradient / temperature
    of_logits = logits.sub_(log_sums[:, None]).exp_().mul_(-gradient[:, None])
    column = targets - first_word
    inside = (column >= 0) & (column < weight.shape[0])
    of_logits.scatter_add_(1, column.clamp(0, weight.shape[0] - 1)[:, None], (gradient * inside)[:, None])
    return of_logits.to(weight.dtype)
