"""The supervised loop: seeded batches, one optimizer step each."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from trainers.loss_spec import LossSpec, sft_loss_spec
from trainers.train_sample import TrainSample

logger = logging.getLogger(__name__)

OnSFTStep = Callable[[int, dict[str, float]], None]
"""Called after each optimizer step with the number of steps done and the metrics."""


class SFTSettings(Protocol):
    """What the loop reads of a configuration: SFTConfig, or WorldModelConfig with its own defaults."""

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

    async def save(self, step: int) -> None:
        """Checkpoint after `step` optimizer steps."""
        ...


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
    stop: asyncio.Event | None = None,
) -> None:
    """Train from `start_step` optimizer steps done to `config.num_steps`, saving every `checkpoint_every` steps and at the end.

    Samples longer than `max_tokens` are left out and counted (`dropped_samples`). `stop` ends the loop between steps; finished
    steps are saved first. Raises ValueError when no sample is left.
    """
    fitting = [sample for sample in samples if len(sample.token_ids) <= config.max_tokens]
    if not fitting:
        raise ValueError(f"no sample to train on: {len(samples)} given, all longer than max_tokens={config.max_tokens}")
    dropped = len(samples) - len(fitting)
    if dropped:
        logger.warning("%d of %d samples are longer than max_tokens=%d and left out", dropped, len(samples), config.max_tokens)
    loss = sft_loss_spec(config.context_loss_weight)
    saved = step = start_step
    while step < config.num_steps and not (stop is not None and stop.is_set()):
        batch = [fitting[index] for index in batch_indices(len(fitting), config.batch_size, seed, step)]
        metrics = await learner.train_step(batch, loss)
        step += 1
        if step % config.checkpoint_every == 0 or step == config.num_steps:
            await learner.save(step)
            saved = step
        on_step(step, metrics | {"dropped_samples": float(dropped), "epoch": step * config.batch_size / len(fitting)})
    if saved < step:
        await learner.save(step)
