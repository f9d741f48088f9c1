"""Seeded batches, resume, and samples that are too long."""

import contextlib
from dataclasses import dataclass, field

import numpy as np
import pytest

from configs.sft_config import SFTConfig
from configs.world_model_config import WorldModelConfig
from tests.trainers.training_doubles import make_sample
from trainers.loss_spec import LossSpec
from trainers.sft_loop import batch_indices, run_sft, sft_data, steps_of
from trainers.train_sample import TrainSample

SAMPLES = [make_sample(np.random.default_rng(index), 10 + index) for index in range(5)]


@dataclass
class CountingLearner:
    lengths: list[list[int]] = field(default_factory=list)
    saved: list[int] = field(default_factory=list)
    specs: list[LossSpec] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)
    validated: list[list[int]] = field(default_factory=list)

    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
        self.lengths.append([len(sample.token_ids) for sample in samples])
        self.specs.append(loss)
        return {"loss": 1.0}

    async def save(self, step: int, score: float | None = None) -> None:
        self.saved.append(step)
        self.scores.append(score)

    async def token_logprobs(self, samples: list[TrainSample]) -> list[np.ndarray]:
        self.validated.append([len(sample.token_ids) for sample in samples])
        return [np.full(len(sample.token_ids), -0.5, np.float32) for sample in samples]


class DeadError(Exception):
    pass


async def train(
    config: SFTConfig | WorldModelConfig, start_step: int = 0, dies_after: int = 99
) -> tuple[CountingLearner, list[int]]:
    learner, steps = CountingLearner(), list[int]()

    def on_step(step: int, metrics: dict[str, float]) -> None:
        steps.append(step)
        if step >= dies_after:
            raise DeadError

    with contextlib.suppress(DeadError):
        await run_sft(config, SAMPLES, learner, start_step, 0, on_step)
    return learner, steps


def test_every_epoch_sees_every_sample_once_in_another_order() -> None:
    seen = [index for step in range(10) for index in batch_indices(5, 3, 0, step)]
    epochs = [seen[start : start + 5] for start in range(0, 30, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert batch_indices(5, 3, 1, 0) != batch_indices(5, 3, 0, 0)


async def test_resume_goes_on_as_an_unbroken_run() -> None:
    unbroken, _ = await train(SFTConfig(num_steps=7, batch_size=2, checkpoint_every=3))
    first, steps = await train(SFTConfig(num_steps=7, batch_size=2, checkpoint_every=3), dies_after=4)
    second, later_steps = await train(SFTConfig(num_steps=7, batch_size=2, checkpoint_every=3), start_step=3)
    assert first.lengths[:3] + second.lengths == unbroken.lengths
    assert (steps, later_steps) == ([1, 2, 3, 4], [4, 5, 6, 7])
    assert (unbroken.saved, first.saved, second.saved) == ([3, 6, 7], [3], [6, 7])


async def test_loss_and_lengths_come_from_the_configuration() -> None:
    learner, _ = await train(SFTConfig(num_steps=4, batch_size=2, max_tokens=12, context_loss_weight=0.3))
    assert learner.specs[0] == LossSpec("cross_entropy", context_loss_weight=0.3)
    assert max(max(lengths) for lengths in learner.lengths) == 12


async def test_the_world_models_configuration_fits() -> None:
    learner, _ = await train(WorldModelConfig(num_steps=2, batch_size=3))
    assert [len(lengths) for lengths in learner.lengths] == [3, 3]


async def test_nothing_fits() -> None:
    with pytest.raises(ValueError, match="no sample to train on: 5 given, all longer than max_tokens=3"):
        await train(SFTConfig(max_tokens=3))


async def test_validation_samples_never_train_and_score_the_checkpoints() -> None:
    config = SFTConfig(num_steps=4, batch_size=3, checkpoint_every=2, validation_samples=2)
    learner, _ = await train(config)
    assert learner.scores == [0.5, 0.5]
    kept_out = set(learner.validated[0])
    assert len(kept_out) == 2
    assert not kept_out & {length for lengths in learner.lengths for length in lengths}


def test_shares_of_the_data_contain_each_other() -> None:
    samples = [make_sample(np.random.default_rng(index), 10 + index) for index in range(20)]
    shares = [
        {len(sample.token_ids) for sample in sft_data(SFTConfig(data_share=share, validation_samples=5), samples, 3).train}
        for share in (0.2, 0.6, 1.0)
    ]
    assert [len(share) for share in shares] == [3, 9, 15]
    assert shares[0] < shares[1] < shares[2]
    with pytest.raises(ValueError, match="must be above 0 and at most 1"):
        sft_data(SFTConfig(data_share=0.0), samples, 0)
    with pytest.raises(ValueError, match="leaves none of 20 samples"):
        sft_data(SFTConfig(validation_samples=20), samples, 0)


def test_epochs_become_steps() -> None:
    assert steps_of(SFTConfig(epochs=5, batch_size=256), 12_567) == 245
    assert steps_of(SFTConfig(epochs=5, batch_size=256), 11_500) == 220
    assert steps_of(SFTConfig(epochs=0.5, batch_size=4), 4) == 1
    assert steps_of(SFTConfig(num_steps=7), 4) == 7


async def test_epochs_set_the_length_of_the_run() -> None:
    _, steps = await train(SFTConfig(epochs=2, batch_size=2))
    assert steps == [1, 2, 3, 4]
