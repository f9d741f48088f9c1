"""From the groups of a step to optimizer steps: filter, advantages, the learner's own log-probs where asked for."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from configs.grpo_config import GRPOConfig
from trainers.advantages import ADVANTAGES
from trainers.group_filter import filter_groups
from trainers.importance_weights import IMPORTANCE_WEIGHTS, with_learner_logprobs
from trainers.kl_penalty import with_kl_penalty
from trainers.loss_spec import LossSpec, policy_loss_spec
from trainers.sample_building import flatten_group
from trainers.train_sample import TrainSample
from verifier.reward import Group

Logprobs = list[npt.NDArray[np.float32]]
SUMMED = ("tokens", "trained_tokens", "samples", "skipped")
LAST = ("step", "lr", "skipped_total")


class PolicyLearner(Protocol):
    """What an update asks of the learner; the log-probs only when the objective needs them."""

    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]: ...

    async def token_logprobs(self, samples: list[TrainSample]) -> Logprobs:
        """Of every token under the present weights, (T,) per sample; the first token's is 0."""
        ...

    async def reference_logprobs(self, samples: list[TrainSample]) -> Logprobs:
        """The same under the weights that the training began with."""
        ...


async def update_policy(
    config: GRPOConfig, learner: PolicyLearner, groups: Sequence[Group], oldest_version: int = 0
) -> dict[str, float]:
    """`updates_per_batch` optimizer steps, each on its own consecutive part of the groups; returns their metrics.

    Tokens that a policy before `oldest_version` sampled train nothing.
    With ratio_to=learner all log-probs are computed before the first of them, so that later parts are off-policy by the earlier
    ones (which is what the clip is for).
    """
    advantage_fn = ADVANTAGES[config.advantage]
    parts = [
        [sample for group in part for sample in flatten_group(group, advantage_fn, oldest_version)]
        for part in in_parts(filter_groups(groups, config.zero_spread_groups), config.updates_per_batch)
    ]
    extra: dict[str, float] = {}
    if config.ratio_to == "learner":
        samples = [sample for part in parts for sample in part]
        prepared, extra = await _relative_to_learner(config, learner, samples)
        rest = iter(prepared)
        parts = [[next(rest) for _ in part] for part in parts]
    spec = policy_loss_spec(config)
    return combined_metrics([await learner.train_step(part, spec) for part in parts]) | extra


async def _relative_to_learner(
    config: GRPOConfig, learner: PolicyLearner, samples: list[TrainSample]
) -> tuple[list[TrainSample], dict[str, float]]:
    if not samples:
        return samples, {}
    logprobs = await learner.token_logprobs(samples)
    weight = IMPORTANCE_WEIGHTS[config.importance_weight](config)
    prepared, metrics = with_learner_logprobs(samples, logprobs, weight)
    if config.kl_coefficient > 0:
        reference = await learner.reference_logprobs(samples)
        prepared, figures = with_kl_penalty(prepared, reference, config.kl_coefficient)
        metrics |= figures
    return prepared, metrics


def in_parts(groups: Sequence[Group], count: int) -> list[list[Group]]:
    """At most `count` consecutive parts whose sizes differ by at most one; without groups one empty part.

    5 groups in 2 parts -> 3 and 2;  1 group in 4 parts -> 1
    """
    count = max(min(count, len(groups)), 1)
    size, longer = divmod(len(groups), count)
    sizes = [size + (index < longer) for index in range(count)]
    rest = iter(groups)
    return [[next(rest) for _ in range(wanted)] for wanted in sizes]


def combined_metrics(updates: Sequence[dict[str, float]]) -> dict[str, float]:
    """One step's figures from those of its updates: counts add up, maxima stay maxima, the rest is the mean."""
    if len(updates) == 1:
        return dict(updates[0])
    combined = {}
    for name in sorted({name for update in updates for name in update}):
        values = [update[name] for update in updates if name in update]
        if name in SUMMED:
            combined[name] = sum(values)
        elif name in LAST:
            combined[name] = values[-1]
        else:
            combined[name] = max(values) if name.endswith("_max") else sum(values) / len(values)
    return combined
