"""The supervised loop: seeded batches, one optimizer step each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from configs.sft_config import SFTConfig
from trainers.loss_spec import LossSpec, sft_loss_spec
from trainers.sample_fitting import FittedSamples, fit_samples
from trainers.train_sample import TrainSample

OnSFTStep = Callable[[int, dict[str, float]], None]
"""Called after each optimizer step with the number of steps done and the metrics."""


class SFTSettings(Protocol):
    """What the loop reads of a configuration: SFTConfig, or WorldModelConfig with its own defaults.

    `overlong`, `validation_samples` and `data_share` are read when they are there.
    """

    @property
    def num_steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def context_loss_weight(self) -> float: ...
    @property
    def checkpoint_every(self) -> int: ...


class SFTLearner(Protocol):
    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]: ...

    async def save(self, step: int, score: float | None = None) -> None:
        """Checkpoint after `step` optimizer steps; `score` is its validation loss, if one was measured."""
        ...

    async def token_logprobs(self, samples: list[TrainSample]) -> list[npt.NDArray[np.float32]]:
        """Log-prob of every token of each sample. Asked for only when samples are kept out for validation."""
        ...


@dataclass(frozen=True)
class SFTData:
    """The samples of a run: those that train, those kept out, and what was left out."""

    fitted: FittedSamples
    train: tuple[TrainSample, ...]
    validation: tuple[TrainSample, ...]


def sft_data(config: SFTSettings, samples: Sequence[TrainSample], seed: int) -> SFTData:
    """Fit the samples to the limit, keep `validation_samples` out, then take `data_share` of the rest; all by the seed.

    Shares of one seed contain each other, and validation samples are the same for every share. Raises ValueError.
    """
    fitted = fit_samples(samples, config.max_tokens, getattr(config, "overlong", "drop"), config.context_loss_weight)
    num_validation, share = getattr(config, "validation_samples", 0), getattr(config, "data_share", 1.0)
    if not 0 < share <= 1:
        raise ValueError(f"sft.data_share={share:g} must be above 0 and at most 1")
    if num_validation >= len(fitted.samples):
        raise ValueError(f"sft.validation_samples={num_validation} leaves none of {len(fitted.samples)} samples to train on")
    order = [int(index) for index in np.random.default_rng([seed, 1]).permutation(len(fitted.samples))]
    out, rest = order[:num_validation], order[num_validation:]
    used = sorted(rest[: max(1, round(share * len(rest)))])
    return SFTData(fitted, tuple(fitted.samples[i] for i in used), tuple(fitted.samples[i] for i in out))


def steps_of(config: SFTConfig, num_samples: int) -> int:
    """Optimizer steps of a run over `num_samples` training samples.

    >>> steps_of(SFTConfig(epochs=5, batch_size=256), 12_567)
    245
    """
    return max(1, int(num_samples // config.batch_size * config.epochs)) if config.epochs > 0 else config.num_steps


def batch_indices(num_samples: int, batch_size: int, seed: int, step: int) -> list[int]:
    """Which samples optimizer step `step` (from 0) trains on: one seeded permutation per epoch, read in order.

    It depends on its arguments only, so a resumed run goes on as an unbroken one; a batch may span two epochs.

    >>> sorted(batch_indices(4, 2, 0, 0) + batch_indices(4, 2, 0, 1))
    [0, 1, 2, 3]
    """
    positions = range(step * batch_size, (step + 1) * batch_size)
    orders = {
        epoch: np.random.default_rng([seed, epoch]).permutation(num_samples) for epoch in {p // num_samples for p in positions}
    }
    return [int(orders[position // num_samples][position % num_samples]) for position in positions]


async def run_sft(
    config: SFTSettings,
    samples: Sequence[TrainSample],
    learner: SFTLearner,
    start_step: int,
    seed: int,
    on_step: OnSFTStep,
) -> None:
    """Train from `start_step` optimizer steps done to the end, saving every `checkpoint_every` steps and at the end.

    See `sft_data` for which samples train. Raises ValueError when no sample is left.
    """
    data = sft_data(config, samples, seed)
    loss = sft_loss_spec(config.context_loss_weight)
    num_steps = steps_of(config, len(data.train)) if isinstance(config, SFTConfig) else config.num_steps
    for step in range(start_step + 1, num_steps + 1):
        batch = [data.train[index] for index in batch_indices(len(data.train), config.batch_size, seed, step - 1)]
        metrics = await learner.train_step(batch, loss)
        if step % config.checkpoint_every == 0 or step == num_steps:
            metrics |= await _save(learner, step, data.validation)
        on_step(step, metrics | data.fitted.metrics | {"epoch": step * config.batch_size / len(data.train)})


async def _save(learner: SFTLearner, step: int, validation: Sequence[TrainSample]) -> dict[str, float]:
    """A checkpoint, scored when there are validation samples."""
    if not validation:
        await learner.save(step)
        return {}
    rows = await learner.token_logprobs(list(validation))
    trained = [(row * sample.loss_mask)[1:].sum(dtype=np.float64) for row, sample in zip(rows, validation, strict=True)]
    score = -sum(trained) / max(sum(int(sample.loss_mask[1:].sum()) for sample in validation), 1)
    await learner.save(step, score)
    return {"validation_loss": float(score)}
