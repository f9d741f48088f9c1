"""The gap between engine and learner: literal values, and when it warns or stops."""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from actors.logprob_gap import LogprobGap, LogprobGapError, measure_gap, require_small_gap, sync_metrics
from configs.model_config import SyncCheckConfig
from envpool.policy import Completion, GenerateRequest, PolicyError
from trainers.train_sample import TrainSample


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


class ScriptedEngines:
    """An engine pool whose only engine says log-prob -1 at temperature 1 and -2 at any other, or breaks."""

    max_model_len = 64

    def __init__(self, broken: bool = False) -> None:
        self.broken = broken

    async def ask_each(self, requests: Sequence[GenerateRequest]) -> dict[int, list[Completion]]:
        if self.broken:
            raise PolicyError("engine 0 died; its requests are lost; no engine took its place within 120 s")
        return {0: [self._said(request) for request in requests]}

    def _said(self, request: GenerateRequest) -> Completion:
        value = np.float32(-1 if request.temperature == 1 else -2)
        return Completion(np.zeros(3, np.int32), np.full(3, value), np.full(3, 7, np.int32), "stop")


async def _scored(samples: Sequence[TrainSample]) -> list[np.ndarray]:
    return [np.full(len(sample.token_ids), np.float32(-2)) for sample in samples]


async def _checked(engines: ScriptedEngines, temperature: float) -> dict[str, float]:
    pool: Any = engines
    return await sync_metrics(pool, _scored, [np.zeros(4, np.int32)], 7, SyncCheckConfig(), temperature)


async def test_the_check_samples_at_the_temperature_of_the_learners_log_probs() -> None:
    assert await _checked(ScriptedEngines(), 0.7) == {
        "sync/gap_mean": 0.0, "sync/gap_max": 0.0, "sync/gap_kl": 0.0, "sync/gap_tokens": 3
    }  # fmt: skip
    with pytest.raises(LogprobGapError, match="differ by 1 nats per token"):
        await _checked(ScriptedEngines(), 1.0)


async def test_an_engine_that_breaks_during_the_check_costs_the_check_only(caplog: pytest.LogCaptureFixture) -> None:
    assert await _checked(ScriptedEngines(broken=True), 1.0) == {"sync/gap_tokens": 0.0}
    (message,) = caplog.messages
    assert message.startswith("version 7: log-probs of engine and learner were not compared: engine 0 died")
