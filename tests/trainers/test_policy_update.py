"""From groups to optimizer steps: parts, log-probs before the first of them, figures."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from configs.grpo_config import GRPOConfig
from tests.trainers.training_doubles import make_group
from trainers.loss_spec import LossSpec
from trainers.policy_update import combined_metrics, in_parts, update_policy
from trainers.train_sample import TrainSample


@dataclass
class ScriptedLearner:
    """Log-probs of `offset` above the rollout's, 0.1 more after every step; the first policy is the rollout's."""

    offset: float = 0.0
    asked: list[str] = field(default_factory=list)
    batches: list[list[TrainSample]] = field(default_factory=list)

    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
        self.asked.append(f"train {len(samples)}")
        self.batches.append(samples)
        self.offset += 0.1
        return {"loss": float(len(self.batches)), "tokens": 10.0, "logprob_gap_max": -float(len(self.batches))}

    async def token_logprobs(self, samples: list[TrainSample]) -> list[np.ndarray]:
        self.asked.append(f"logprobs {len(samples)}")
        return [sample.rollout_logprobs + np.float32(self.offset) for sample in samples]

    async def reference_logprobs(self, samples: list[TrainSample]) -> list[np.ndarray]:
        self.asked.append(f"reference {len(samples)}")
        return [sample.rollout_logprobs for sample in samples]


async def test_the_engines_logprobs_need_nothing_else() -> None:
    learner = ScriptedLearner()
    await update_policy(GRPOConfig(), learner, [make_group([1, 0])])
    assert learner.asked == ["train 2"]
    assert learner.batches[0][0].rollout_logprobs.tolist() == pytest.approx([0, 0, -0.1, -0.2])


async def test_logprobs_are_computed_once_before_the_first_step() -> None:
    """SWE-Master's form: four optimizer steps on one batch, all relative to the policy before them."""
    learner = ScriptedLearner(offset=0.5)
    config = GRPOConfig(ratio_to="learner", updates_per_batch=4)
    metrics = await update_policy(config, learner, [make_group([1, 0]) for _ in range(8)])
    assert learner.asked == ["logprobs 16", "train 4", "train 4", "train 4", "train 4"]
    for batch in learner.batches:
        assert batch[0].rollout_logprobs.tolist() == pytest.approx([0, 0, 0.4, 0.3])
        assert [float(sample.advantages.sum()) for sample in batch] == [2, -2, 2, -2]
    assert (metrics["loss"], metrics["tokens"], metrics["logprob_gap"]) == (2.5, 40, pytest.approx(0.5))


async def test_weights_and_penalty_reach_the_advantages() -> None:
    learner = ScriptedLearner(offset=float(np.log(3)))
    config = GRPOConfig(ratio_to="learner", importance_weight="token_truncated", importance_cap=2.0, kl_coefficient=0.3)
    metrics = await update_policy(config, learner, [make_group([1, 0])])
    assert learner.asked == ["logprobs 2", "reference 2", "train 2"]
    penalty = 0.3 * (1 - 1 / 3)  # k3's slope where the policy is three times as likely as the first one
    assert learner.batches[0][0].advantages.tolist() == pytest.approx([0, 0, 2 - penalty, 2 - penalty], abs=1e-5)
    assert learner.batches[0][1].advantages.tolist() == pytest.approx([0, 0, -2 - penalty, -2 - penalty], abs=1e-5)
    assert metrics["kl_reference"] == pytest.approx(1 / 3 - 1 + np.log(3), abs=1e-5)


async def test_a_step_whose_groups_were_all_dropped() -> None:
    learner = ScriptedLearner()
    await update_policy(GRPOConfig(ratio_to="learner", zero_spread_groups="drop"), learner, [make_group([1, 1])])
    assert learner.asked == ["train 0"]


async def test_tokens_of_policies_that_are_too_old_train_nothing() -> None:
    learner = ScriptedLearner()
    await update_policy(GRPOConfig(), learner, [make_group([1, 0])], oldest_version=1)
    assert [(sample.num_trained, sample.advantages.any()) for sample in learner.batches[0]] == [(0, False)] * 2


def test_parts() -> None:
    groups = [make_group([1, 0], task=str(index)) for index in range(5)]
    assert [[group.instance_id for group in part] for part in in_parts(groups, 2)] == [["0", "1", "2"], ["3", "4"]]
    assert [len(part) for part in in_parts(groups[:1], 4)] == [1]
    assert in_parts([], 4) == [[]]


def test_combined_metrics() -> None:
    updates = [
        {"loss": 1.0, "tokens": 3.0, "gap_max": 5.0, "step": 1.0, "skipped": 1.0, "skipped_total": 3.0},
        {"loss": 2.0, "tokens": 4.0, "gap_max": 1.0, "step": 2.0, "skipped": 1.0, "skipped_total": 4.0},
    ]
    whole = {"loss": 1.5, "tokens": 7.0, "gap_max": 5.0, "step": 2.0, "skipped": 2.0, "skipped_total": 4.0}
    assert combined_metrics(updates) == whole
    assert combined_metrics(updates[:1]) == updates[0]
