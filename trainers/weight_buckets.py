"""A model's weights, a bucket at a time: what leaves the learner never needs more than one bucket of extra memory."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt
import torch
from torch import nn
from transformers import PreTrainedModel

from trainers.low_rank_adapters import LeavingWeight, leaving_weights


def plan_buckets(sizes: Sequence[int], bucket_bytes: int) -> list[range]:
    """Neighbours together while they fit; what is larger than a bucket is one by itself.

    >>> plan_buckets([4, 4, 9, 1, 2], bucket_bytes=8)
    [range(0, 2), range(2, 3), range(3, 5)]
    """
    buckets: list[range] = []
    first = held = 0
    for index, size in enumerate(sizes):
        if index > first and held + size > bucket_bytes:
            buckets.append(range(first, index))
            first, held = index, 0
        held += size
    return [*buckets, range(first, len(sizes))] if sizes else []


class WeightBuckets:
    """The weights of `lm` under their Hugging Face names, tied ones once, adapters merged. Ranks of ZeRO-3 gather together."""

    def __init__(self, lm: PreTrainedModel, gather: bool, bucket_bytes: int) -> None:
        self._weights = leaving_weights(lm)
        self._gather = gather
        self._buckets = plan_buckets([_num_bytes(weight) for weight in self._weights], bucket_bytes)

    def __len__(self) -> int:
        return len(self._buckets)

    @contextmanager
    def gathered(self, index: int) -> Iterator[dict[str, torch.Tensor]]:
        """Bucket `index`: name to values on the model's device, which are gone (or others) outside of the context."""
        import deepspeed

        weights = [self._weights[place] for place in self._buckets[index]]
        parts = [part for weight in weights for part in weight.parts]
        with deepspeed.zero.GatheredParameters(parts, enabled=self._gather):
            yield {weight.name: weight.values() for weight in weights}

    def shapes(self) -> Iterator[tuple[str, torch.dtype, tuple[int, ...]]]:
        """(name, dtype, shape) of every weight in the order of the buckets, without gathering any."""
        for weight in self._weights:
            whole: Any = weight.parts[0]
            yield weight.name, whole.dtype, tuple(getattr(whole, "ds_shape", whole.shape))


def as_array(values: torch.Tensor) -> npt.NDArray[Any]:
    """A CPU tensor's memory as an array; bfloat16 as its bits in uint16, since numpy has no such type."""
    array: npt.NDArray[Any] = values.view(torch.uint16).numpy() if values.dtype == torch.bfloat16 else values.numpy()
    return array


def _num_bytes(weight: LeavingWeight) -> int:
    whole: nn.Parameter = weight.parts[0]
    return int(getattr(whole, "ds_numel", whole.numel())) * whole.element_size()
