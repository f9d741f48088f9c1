"""Samples that can be trained on, and how many were not: too long, nothing to learn from, or of another tokenizer."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainers.train_sample import TrainSample

logger = logging.getLogger(__name__)

OVERLONG = ("drop", "cut")


@dataclass(frozen=True)
class FittedSamples:
    """What is left, and what happened to the rest: every sample given is in one of the counts or whole in `samples`."""

    samples: tuple[TrainSample, ...]
    num_dropped: int
    """Longer than the limit and left out."""
    num_cut: int
    """Cut at the limit."""
    num_empty: int
    """Without a token to train on (after cutting) and left out."""

    @property
    def metrics(self) -> dict[str, float]:
        counts = {"dropped_samples": self.num_dropped, "cut_samples": self.num_cut, "empty_samples": self.num_empty}
        return {name: float(count) for name, count in counts.items()}


def fit_samples(
    samples: Sequence[TrainSample], max_tokens: int, overlong: str = "drop", context_loss_weight: float = 0.0
) -> FittedSamples:
    """Samples of at most `max_tokens` with something to train on. Raises ValueError when none is left, with the counts."""
    if overlong not in OVERLONG:
        raise ValueError(f"sft.overlong={overlong!r} is not known; one of {', '.join(OVERLONG)}")
    kept: list[TrainSample] = []
    dropped = cut = empty = 0
    for sample in samples:
        if len(sample.token_ids) > max_tokens:
            if overlong == "drop":
                dropped += 1
                continue
            sample = cut_sample(sample, max_tokens)
            cut += 1
        if len(sample.token_ids) < 2 or not (context_loss_weight or sample.loss_mask[1:].any()):
            empty += 1
            continue
        kept.append(sample)
    if not kept:
        long = f"{dropped} longer than max_tokens={max_tokens}"
        if dropped == len(samples) > 0:
            long = f"all longer than max_tokens={max_tokens}"
        raise ValueError(f"no sample to train on: {len(samples)} given, {long}, {empty} without a token to learn")
    if dropped or cut or empty:
        logger.warning(
            "of %d samples %d are longer than max_tokens=%d and left out, %d are cut there, %d have no token to learn",
            len(samples), dropped, max_tokens, cut, empty,
        )  # fmt: skip
    return FittedSamples(tuple(kept), dropped, cut, empty)


def cut_sample(sample: TrainSample, max_tokens: int) -> TrainSample:
    """Its first `max_tokens` tokens."""
    arrays: dict[str, Any] = {name: value[:max_tokens] for name, value in vars(sample).items() if isinstance(value, np.ndarray)}
    return replace(sample, **arrays)


def check_token_ids(samples: Sequence[TrainSample], vocab_size: int) -> None:
    """Raise ValueError when a sample holds an id that the model has no embedding for: it was made by another tokenizer."""
    for index, sample in enumerate(samples):
        if len(sample.token_ids) and not 0 <= int(sample.token_ids.min()) <= int(sample.token_ids.max()) < vocab_size:
            worst = int(sample.token_ids.max()) if int(sample.token_ids.min()) >= 0 else int(sample.token_ids.min())
            raise ValueError(
                f"sample {index} of {sample.group} has token {worst}, the model's vocabulary ends at {vocab_size}: "
                "it was tokenised for another model"
            )
