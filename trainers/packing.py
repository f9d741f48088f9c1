"""From samples to tensors: micro-batches of samples laid end to end, without padding. Torch starts here.

Positions start again at each sample and attention stays inside it (trainers.segment_attention), so a packed sample gets the
losses and gradients it would get alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from trainers.batch_planning import plan_micro_batches
from trainers.train_sample import TrainSample

TokenWeights = Callable[[TrainSample], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class MicroBatch:
    """One row of T tokens made of S samples, and the N tokens whose log-probs enter the loss.

    `token_ids` and `position_ids` are (1, T) int64, `lengths` the S samples' tokens with sum T. `predicted` (N,) int64 holds
    the positions t of the tokens to predict (never a sample's first; the hidden state of t - 1 predicts token t). The other
    tensors are (N,), in the order of `predicted`. `sample_indices` (S,) says which of the packed samples each one is.
    """

    token_ids: torch.Tensor
    position_ids: torch.Tensor
    lengths: tuple[int, ...]
    predicted: torch.Tensor
    targets: torch.Tensor
    loss_mask: torch.Tensor
    rollout_logprobs: torch.Tensor
    advantages: torch.Tensor
    weights: torch.Tensor
    sample_indices: tuple[int, ...]

    def to(self, device: torch.device) -> "MicroBatch":
        """The same micro-batch on another device."""
        moved: dict[str, Any] = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **moved)


def pack(
    samples: Sequence[TrainSample],
    tokens_per_micro_batch: int,
    weights: TokenWeights,
    plan: Sequence[Sequence[int]] | None = None,
) -> list[MicroBatch]:
    """Micro-batches that hold every sample once. `weights` gives each token's weight in the loss (a loss's `weights`).

    `plan` says which samples share a micro-batch (one rank's part of `plan_micro_batches`); None plans here. Tokens of weight
    0 are not predicted at all: whatever stands there (NaN included) reaches neither loss nor gradient. Samples without any
    weight are left out, and no samples give no micro-batches.
    """
    weights_of = [_weights_after_first(sample, weights) for sample in samples]
    if plan is None:
        kept = [index for index, row in enumerate(weights_of) if row.any()]
        (planned,) = plan_micro_batches([len(samples[index].token_ids) for index in kept], 1, tokens_per_micro_batch)
        plan = [[kept[position] for position in together] for together in planned]
    chosen = [[index for index in together if weights_of[index].any()] for together in plan]
    return [_micro_batch(samples, weights_of, together) for together in chosen if together]


def empty_micro_batch() -> MicroBatch:
    """One prediction of weight 0, for a rank that has run out of micro-batches while others still compute."""
    nothing = torch.zeros(1)
    return MicroBatch(
        token_ids=torch.zeros(1, 2, dtype=torch.int64),
        position_ids=torch.arange(2)[None],
        lengths=(2,),
        predicted=torch.tensor([1]),
        targets=torch.tensor([0]),
        loss_mask=nothing,
        rollout_logprobs=nothing,
        advantages=nothing,
        weights=nothing,
        sample_indices=(),
    )


def _weights_after_first(sample: TrainSample, weights: TokenWeights) -> npt.NDArray[np.float32]:
    row = np.array(weights(sample), dtype=np.float32)
    row[:1] = 0  # nothing comes before the first token
    return row


def _micro_batch(
    samples: Sequence[TrainSample], weights_of: list[npt.NDArray[np.float32]], together: Sequence[int]
) -> MicroBatch:
    chosen = [samples[index] for index in together]
    lengths = [len(sample.token_ids) for sample in chosen]
    starts = np.cumsum([0, *lengths[:-1]])
    token_ids = np.concatenate([sample.token_ids for sample in chosen]).astype(np.int64)
    positions = [np.flatnonzero(weights_of[index]) for index in together]

    def at_positions(arrays: list[npt.NDArray]) -> torch.Tensor:
        return torch.from_numpy(
            np.concatenate([array[where] for array, where in zip(arrays, positions, strict=True)]).astype(np.float32)
        )

    predicted = np.concatenate([start + where for start, where in zip(starts, positions, strict=True)])
    return MicroBatch(
        token_ids=torch.from_numpy(token_ids)[None],
        position_ids=torch.from_numpy(np.concatenate([np.arange(length) for length in lengths]))[None],
        lengths=tuple(lengths),
        predicted=torch.from_numpy(predicted),
        targets=torch.from_numpy(token_ids[predicted]),
        loss_mask=at_positions([sample.loss_mask for sample in chosen]),
        rollout_logprobs=at_positions([sample.rollout_logprobs for sample in chosen]),
        advantages=at_positions([sample.advantages for sample in chosen]),
        weights=at_positions([weights_of[index] for index in together]),
        sample_indices=tuple(together),
    )
