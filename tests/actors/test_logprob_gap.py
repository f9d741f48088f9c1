"""The gap between engine and learner: literal values, and when it warns or stops."""

import logging

import numpy as np
import pytest

from actors.logprob_gap import LogprobGap, LogprobGapError, measure_gap, require_small_gap
from configs.model_config import SyncCheckConfig


def _row(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def test_mean_largest_and_kl() -> None:
    gap = measure_gap([_row(-1.0, -2.0), _row(-0.5)], [_row(-1.5, -2.0), _row(-0.25)])
    assert (gap.mean, gap.largest, gap.num_tokens) == (0.25, 0.5, 3)
    # k3 of log ratios -0.5, 0, 0.25: (e^-0.5 - 1 + 0.5 + 0 + e^0.25 - 1 - 0.25) / 3
    assert gap.kl == pytest.approx((0.1065306597 + 0.0340254167) / 3, abs=1e-9)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_an_infinite_gap(bad: float) -> None:
    gap = measure_gap([_row(-1.0, bad)], [_row(-1.0, -1.0)])
    assert (gap.mean, gap.largest, gap.kl) == (np.inf, np.inf, np.inf)
    with pytest.raises(LogprobGapError):
        require_small_gap(gap, SyncCheckConfig(), "version 3")


def test_a_small_gap_is_silent_a_larger_one_warns_a_large_one_stops(caplog: pytest.LogCaptureFixture) -> None:
    config = SyncCheckConfig(warn_gap=0.1, stop_gap=1.0)
    with caplog.at_level(logging.WARNING):
        require_small_gap(LogprobGap(0.09, 5.0, 0.1, 32), config, "version 3")
        assert caplog.messages == []
        require_small_gap(LogprobGap(0.5, 5.0, 0.1, 32), config, "version 3")
    (message,) = caplog.messages
    assert message == (
        "version 3: engine and learner differ by 0.5 nats per token on average, 5 at most (KL 0.1, 32 tokens); "
        "engine.sync_check.warn_gap is 0.1"
    )
    with pytest.raises(LogprobGapError, match=r"engine\.sync_check\.stop_gap is 1"):
        require_small_gap(LogprobGap(1.01, 5.0, 0.1, 32), config, "version 3")


def test_thresholds_of_0_are_off(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        require_small_gap(LogprobGap(9.0, 9.0, 9.0, 1), SyncCheckConfig(warn_gap=0, stop_gap=0), "version 3")
    assert caplog.messages == []
