"""alpha over a run: literals."""

import pytest

from configs.verifier_config import VerifierConfig
from verifier.truncation_credit import TRUNCATION_CREDITS


def alpha(config: VerifierConfig, step: int, outcomes: list[bool]) -> float:
    return TRUNCATION_CREDITS[config.truncated_schedule](config, step, outcomes)


def test_constant() -> None:
    config = VerifierConfig(truncated_factor=0.5, truncated_factor_end=0.1)
    assert [alpha(config, step, [True] * 200) for step in (0, 10, 1000)] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(("step", "expected"), [(0, 0.5), (5, 0.3), (10, 0.1), (99, 0.1)])
def test_linear(step: int, expected: float) -> None:
    config = VerifierConfig(truncated_schedule="linear", truncated_factor_end=0.1, truncated_steps=10)
    assert alpha(config, step, []) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], 0.5),
        ([True] * 3, 0.5),  # not yet as many as the window
        ([True, False, False, False], 0.25),
        ([True] * 9 + [True, False, False, False], 0.25),  # only the last four
        ([False] * 4, 0.0),
        ([True] * 4, 0.6),  # at most the upper bound
    ],
)
def test_measured_share(outcomes: list[bool], expected: float) -> None:
    config = VerifierConfig(truncated_schedule="measured_share", truncated_window=4, truncated_factor_end=0.6)
    assert alpha(config, 3, outcomes) == expected
