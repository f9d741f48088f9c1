"""The learner's log-probs on disk: which trajectory they belong to, and when they are asked for."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cluster.policy_logprobs import LogprobRecorder, read_step, step_file
from configs.grpo_config import GRPOConfig
from tests.cluster.viewer_runs import member
from trainers.advantages.group_mean import group_mean
from trainers.loss_spec import LossSpec, policy_loss_spec
from trainers.sample_building import flatten_group
from trainers.train_sample import TrainSample
from verifier.reward import Group

Logprobs = list[npt.NDArray[np.float32]]


class CountingLearner:
    """Log-prob of token i of the n-th sample: -(n + i / 100). Raises what nobody should ask for."""

    def __init__(self) -> None:
        self.asked = 0

    async def token_logprobs(self, samples: list[TrainSample]) -> Logprobs:
        self.asked += 1
        return [-(n + np.arange(len(one.token_ids)) / 100).astype(np.float32) for n, one in enumerate(samples)]

    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
        return {"samples": float(len(samples))}

    async def reference_logprobs(self, samples: list[TrainSample]) -> Logprobs:
        raise NotImplementedError

    async def sync_weights(self, version: int) -> float:
        raise NotImplementedError

    async def save(self, step: int) -> None:
        raise NotImplementedError


GROUP = Group("a", (member("a", 4, True), member("a", 7, False, turns=4)), ())


def samples() -> list[TrainSample]:
    return flatten_group(GROUP, group_mean)


async def test_what_the_objective_asks_for_is_stored_by_trajectory(tmp_path: Path) -> None:
    learner = CountingLearner()
    recorder = LogprobRecorder(learner, always=True)
    await recorder.token_logprobs(samples())
    assert await recorder.train_step(samples(), policy_loss_spec(GRPOConfig())) == {"samples": 2.0}
    assert learner.asked == 1
    recorder.write(tmp_path, 3, [GROUP])
    first = read_step(tmp_path, 3, ("a", 4), 6)
    assert first.tolist() == pytest.approx([-0.03, -0.04, -0.08, -0.09, -0.13, -0.14])
    assert read_step(tmp_path, 3, ("a", 7), 8)[0] == pytest.approx(-1.03)
    assert read_step(tmp_path, 3, ("a", 7), 6) is None
    assert read_step(tmp_path, 4, ("a", 7), 8) is None


async def test_without_the_option_nothing_is_asked_or_written(tmp_path: Path) -> None:
    learner = CountingLearner()
    recorder = LogprobRecorder(learner, always=False)
    await recorder.train_step(samples(), policy_loss_spec(GRPOConfig()))
    recorder.write(tmp_path, 1, [GROUP])
    assert learner.asked == 0
    assert not step_file(tmp_path, 1).exists()


async def test_the_option_asks_before_each_update_and_forgets_after_the_step(tmp_path: Path) -> None:
    learner = CountingLearner()
    recorder = LogprobRecorder(learner, always=True)
    for sample in samples():
        await recorder.train_step([sample], policy_loss_spec(GRPOConfig()))
    assert learner.asked == 2
    recorder.write(tmp_path, 1, [GROUP])
    assert read_step(tmp_path, 1, ("a", 7), 8) is not None
    recorder.write(tmp_path, 2, [GROUP])
    assert not step_file(tmp_path, 2).exists()
