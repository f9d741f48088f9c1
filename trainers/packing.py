"""From samples to tensors: micro-batches of right-padded rows of similar length. Torch starts here.

Padded rows need no attention mask: attention is causal and the padding comes last, so no real token sees it, and no row sees
another. Sorted by length, 5 to 10 % is padding. Packed rows with a block mask cost attention quadratic in the row: measured on
one CPU thread (0.9 M parameters, samples of 100 to 300 tokens, benchmarks/learner_speed.py) padded rows make 7,500 tokens per
CPU second at 2,048 tokens a micro-batch, packed rows 6,200 at 1,024 and 2,400 at 4,096.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from trainers.train_sample import TrainSample

TokenWeights = Callable[[TrainSample], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class MicroBatch:
    """B rows padded to T tokens, and the N tokens whose log-probs enter the loss.

    `token_ids` is (B, T) int64, `lengths` (B,) int64. `predicted` (N,) int64 holds flat positions row * T + t of the tokens
    to predict (t >= 1; the hidden state of t - 1 predicts token t). The other tensors are (N,), in the order of `predicted`.
    `sample_indices` (B,) says which of the packed samples each row is.
    """

    token_ids: torch.Tensor
    lengths: torch.Tensor
    predicted: torch.Tensor
    targets: torch.Tensor
    loss_mask: torch.Tensor
    rollout_logprobs: torch.Tensor
    advantages: torch.Tensor
    weights: torch.Tensor
    sample_indices: tuple[int, ...]

    def to(self, device: torch.device) -> "MicroBatch":
        """The same micro-batch on another device."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return MicroBatch(**moved, sample_indices=self.sample_indices)


def plan_rows(lengths: Sequence[int], tokens_per_micro_batch: int) -> list[list[int]]:
    """Indices of the samples of each micro-batch: longest first, rows times the longest length within the budget.

    A sample longer than the budget gets a micro-batch of its own.

    >>> plan_rows([3, 9, 4, 8], 18)
    [[1, 3], [2, 0]]
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    width = 0
    for index in order:
        if batches and (len(batches[-1]) + 1) * width <= tokens_per_micro_batch:
            batches[-1].append(index)
        else:
            batches.append([index])
            width = lengths[index]
    return batches


def pack(samples: Sequence[TrainSample], tokens_per_micro_batch: int, weights: TokenWeights) -> list[MicroBatch]:
    """Micro-batches that hold every sample once. `weights` gives each token's weight in the loss (a loss's `weights`).

    Tokens of weight 0 are not predicted at all: whatever stands there (NaN included) reaches neither loss nor gradient.
    Samples without any weight are left out, and no samples give no micro-batches.
    """
    weights_of = [_weights_after_first(sample, weights) for sample in samples]
    kept = [index for index, row in enumerate(weights_of) if row.any()]
    plan = plan_rows([len(samples[index].token_ids) for index in kept], tokens_per_micro_batch)
    return [_micro_batch(samples, weights_of, [kept[position] for position in rows]) for rows in plan]


def empty_micro_batch() -> MicroBatch:
    """One prediction of weight 0, for a rank that has run out of rows while others still compute."""
    nothing = torch.zeros(1)
    return MicroBatch(
        token_ids=torch.zeros(1, 2, dtype=torch.int64),
        lengths=torch.tensor([2]),
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


def _micro_batch(samples: Sequence[TrainSample], weights_of: list[npt.NDArray[np.float32]], rows: list[int]) -> MicroBatch:
    chosen = [samples[index] for index in rows]
    lengths = np.array([len(sample.token_ids) for sample in chosen], dtype=np.int64)
    width = int(lengths.max())
    token_ids = np.zeros((len(rows), width), dtype=np.int64)
    for row, sample in enumerate(chosen):
        token_ids[row, : lengths[row]] = sample.token_ids
    positions = [np.flatnonzero(weights_of[index]) for index in rows]

    def at_positions(arrays: list[npt.NDArray]) -> torch.Tensor:
        return torch.from_numpy(
            np.concatenate([array[where] for array, where in zip(arrays, positions, strict=True)]).astype(np.float32)
        )

    predicted = np.concatenate([row * width + where for row, where in enumerate(positions)])
    return MicroBatch(
        token_ids=torch.from_numpy(token_ids),
        lengths=torch.from_numpy(lengths),
        predicted=torch.from_numpy(predicted),
        targets=torch.from_numpy(token_ids.reshape(-1)[predicted]),
        loss_mask=at_positions([sample.loss_mask for sample in chosen]),
        rollout_logprobs=at_positions([sample.rollout_logprobs for sample in chosen]),
        advantages=at_positions([sample.advantages for sample in chosen]),
        weights=at_positions([weights_of[index] for index in rows]),
        sample_indices=tuple(rows),
    )
