"""What vLLM's scheduler says after every step, kept as a few numbers: KV cache use, preemptions, prefix-cache hits."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

OBSERVE_S = 0.25
"""Steps are summed up over this time before anybody is told."""
LONGEST_STEP_S = 5.0
"""A step that takes longer is a hang: nothing was computed then."""


@dataclass
class EngineGauges:
    """Running values; token counts are of prompts looked up in the prefix cache, and how many of them were found."""

    kv_usage: float = 0.0
    """Share of KV cache blocks that running requests hold, after the newest step."""
    running: int = 0
    waiting: int = 0
    preemptions: int = 0
    """Requests that lost their KV cache to others, since the start."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    last_step: float = 0.0
    """time.monotonic() of the newest step."""
    steps: int = 0
    worked_s: float = 0.0
    """Seconds of all steps since the start; hangs, idleness and the loading of weights are no part of it."""
    longest_step_s: float = LONGEST_STEP_S
    on_observed: Callable[[float, int], None] = lambda usage, preemptions: None
    """Told the highest usage and the preemptions of the last OBSERVE_S."""
    clock: Callable[[], float] = time.monotonic
    _since: float = 0.0
    _expected: int = 0
    _highest: float = 0.0
    _told: tuple[float, int] = (0.0, 0)

    def expect_preemptions(self) -> None:
        """A weight update is about to preempt what runs: that is no sign of pressure."""
        self._expected += self.running

    def begin(self) -> None:
        """There is something to do from now on: the time until here belongs to no step."""
        self._since = self.clock()

    def step(self, usage: float, running: int, waiting: int, preempted: int, prompt_tokens: int, cached: int) -> None:
        """One scheduler step."""
        self.kv_usage, self.running, self.waiting = usage, running, waiting
        expected = min(preempted, self._expected)
        self._expected = self._expected - expected if running else 0
        self.preemptions += preempted - expected
        self.prompt_tokens += prompt_tokens
        self.cached_tokens += cached
        self.last_step = self.clock()
        self.steps += 1
        took_s, self._since = self.last_step - self._since, self.last_step
        self.worked_s += took_s if took_s < self.longest_step_s else 0.0
        self._highest = max(self._highest, usage)
        then, preemptions = self._told
        if self.last_step - then >= OBSERVE_S:
            self._told = (self.last_step, self.preemptions)
            highest, self._highest = self._highest, usage
            self.on_observed(highest, self.preemptions - preemptions)


def gauge_logger(gauges: EngineGauges) -> Any:
    """A vLLM stat logger that fills `gauges`. vLLM adds its Prometheus logger, which costs as much as a small model's step,
    unless one of that class is there: so this is one, and keeps none of its metrics."""
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    class GaugeLogger(PrometheusStatLogger):
        def __init__(self, vllm_config: Any, engine_indexes: list[int] | None = None) -> None:
            pass

        def record(
            self, scheduler_stats: Any, iteration_stats: Any, mm_cache_stats: Any = None, engine_idx: int = 0, **_: Any
        ) -> None:
            if scheduler_stats is None:
                return
            prefix = scheduler_stats.prefix_cache_stats
            gauges.step(
                scheduler_stats.kv_cache_usage,
                scheduler_stats.num_running_reqs,
                scheduler_stats.num_waiting_reqs,
                iteration_stats.num_preempted_reqs if iteration_stats is not None else 0,
                prefix.queries,
                prefix.hits,
            )

        def log_engine_initialized(self) -> None:
            pass

        def record_sleep_state(self, is_awake: int = 0, level: int = 0) -> None:
            pass

        def record_admission_rejection(self, reason: str) -> None:
            pass

    return GaugeLogger
