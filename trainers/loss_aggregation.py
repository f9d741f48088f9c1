"""How token losses become one number: what a token weighs, and what a sample adds to the normaliser.

The step's loss is sum(weight * token loss) / sum(normaliser), both sums over all samples of all micro-batches and ranks, so
that no way of splitting a step changes its gradient. To add one: a line in `AGGREGATIONS`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainers.loss_spec import LossSpec
from trainers.train_sample import TrainSample


@dataclass(frozen=True)
class Aggregation:
    """`token_weight(n, L_max)` and `normaliser(n)` of a trajectory with n > 0 trained tokens. A sample that holds m of them adds
    m / n of the normaliser."""

    token_weight: Callable[[int, int], float]
    normaliser: Callable[[int], float]


AGGREGATIONS: dict[str, Aggregation] = {
    # Dr. GRPO, SWE-Master: the same constant for every trajectory, so that long ones are not discounted
    "seq-mean-token-sum-norm": Aggregation(lambda n, l_max: 1.0 / l_max, lambda n: 1.0),
    "seq-mean-token-sum": Aggregation(lambda n, l_max: 1.0, lambda n: 1.0),
    # GRPO as published (DeepSeekMath), GSPO: by the trajectory's own length
    "seq-mean-token-mean": Aggregation(lambda n, l_max: 1.0 / n, lambda n: 1.0),
    # DAPO, CISPO: every trained token of the step weighs the same
    "token-mean": Aggregation(lambda n, l_max: 1.0, float),
}


def token_weights(spec: LossSpec, sample: TrainSample, whole_sequence: bool = False) -> npt.NDArray[np.float32]:
    """Weight of every token, (T,), 0 where nothing is trained.

    A token of advantage 0 has no gradient and weighs 0 too; with `whole_sequence` it keeps its weight when another token of
    the sample has an advantage (a ratio over the sequence needs all of its tokens).

    mask 0 1 1, advantages 0 2 2, L_max 4 -> 0 0.25 0.25
    """
    mask = sample.loss_mask != 0
    taught = mask & (sample.advantages != 0)
    on = (mask if taught.any() else taught) if whole_sequence else taught
    if not mask.any():
        return np.zeros(len(mask), np.float32)
    num_trained = sample.trajectory_tokens or sample.num_trained
    return (on * AGGREGATIONS[spec.aggregation].token_weight(num_trained, spec.max_response_tokens)).astype(np.float32)


def sample_normaliser(spec: LossSpec, sample: TrainSample) -> float:
    """What the sample adds to the normaliser: tokens of advantage 0 count, a sample without trained tokens does not.

    6 of a trajectory's 8 trained tokens, seq-mean-token-sum -> 0.75
    """
    if not sample.num_trained:
        return 0.0
    num_trained = sample.trajectory_tokens or sample.num_trained
    return AGGREGATIONS[spec.aggregation].normaliser(num_trained) * (sample.num_trained / num_trained)
