"""Learning rates by step, as literals."""

import pytest

from configs.optimizer_config import OptimizerConfig
from trainers.lr_schedule import learning_rate_at


def rates(schedule: str, warmup: int, steps: int, low: float = 0.0) -> list[float]:
    config = OptimizerConfig(learning_rate=1.0, min_learning_rate=low, warmup_steps=warmup, schedule=schedule)
    return [round(learning_rate_at(step, steps, config), 4) for step in range(steps)]


def test_constant() -> None:
    assert rates("constant", 0, 3) == [1, 1, 1]
    assert rates("constant", 2, 4) == [0.5, 1, 1, 1]


def test_linear() -> None:
    assert rates("linear", 0, 4) == [1, 0.75, 0.5, 0.25]
    assert rates("linear", 2, 5, low=0.2) == [0.5, 1, 0.8, 0.6, 0.4]


def test_cosine() -> None:
    assert rates("cosine", 0, 4) == [1, 0.8536, 0.5, 0.1464]


def test_past_the_end_stays_low() -> None:
    assert learning_rate_at(99, 4, OptimizerConfig(learning_rate=1.0, warmup_steps=0, min_learning_rate=0.1)) == pytest.approx(
        0.1
    )


def test_unknown_schedule() -> None:
    with pytest.raises(ValueError, match="unknown schedule 'step'; one of cosine, linear, constant"):
        learning_rate_at(0, 1, OptimizerConfig(schedule="step"))


def test_warm_up_as_a_share_of_all_steps() -> None:
    """SWE-Master's schedule: 245 steps, 25 of them warm-up, 5e-5 down to 5e-6."""
    config = OptimizerConfig(learning_rate=5e-5, min_learning_rate=5e-6, warmup_steps=999, warmup_ratio=0.1)
    rates = [learning_rate_at(step, 245, config) for step in range(245)]
    assert rates[0] == pytest.approx(5e-5 / 25)
    assert rates[24] == pytest.approx(5e-5)
    assert max(rates) == rates[24]
    assert rates[-1] == pytest.approx(5e-6, rel=0.01)
