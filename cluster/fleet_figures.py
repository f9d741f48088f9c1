"""What engines and sandboxes did between two steps: from their running counts to metrics. No Ray here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from configs.run_config import RunConfig
from envpool.pool.seconds_histogram import quantile_s

Row = Mapping[str, float]
Bins = Mapping[str, Sequence[int]]
QUANTILES = (("p50", 0.5), ("p95", 0.95))
SINCE = ("started", "lost", "warm_hits", "swept", "graded", "shared")
"""Sandbox counts reported as their growth."""


@dataclass(frozen=True)
class FleetCounters:
    """Running counts of every engine and rollout worker at one moment. `seconds` is per worker: what is timed (start, exec,
    eval) -> bins of envpool.pool.seconds_histogram."""

    time_s: float = 0.0
    engines: Sequence[Row] = ()
    workers: Sequence[Row] = ()
    seconds: Sequence[Bins] = ()


def fleet_metrics(before: FleetCounters, now: FleetCounters) -> dict[str, float]:
    """`engine/...`, `sandbox/...` and `perf/engine_idle` of the time between. A count that has fallen belongs to a
    process that was started again: it counts from 0."""
    return {**_engine_metrics(before, now), **_sandbox_metrics(before, now)}


def idle_metrics(engine_idle: float | None, train_s: float, wall_s: float, gpus: tuple[float, float, bool]) -> dict[str, float]:
    """`perf/learner_idle` and, with GPUs, `perf/gpu_idle`. `gpus`: of engines, of the learner, and whether they are the same.

    >>> idle_metrics(0.5, 2.0, 10.0, (1, 3, False))
    {'perf/learner_idle': 0.8, 'perf/gpu_idle': 0.725}
    """
    if wall_s <= 0:
        return {}
    learner_idle = min(max(1.0 - train_s / wall_s, 0.0), 1.0)
    metrics = {"perf/learner_idle": learner_idle}
    of_engines, of_learner, shared = gpus
    if engine_idle is not None and of_engines + of_learner > 0:
        mixed = (of_engines * engine_idle + of_learner * learner_idle) / (of_engines + of_learner)
        metrics["perf/gpu_idle"] = max(engine_idle + learner_idle - 1.0, 0.0) if shared else mixed
    return metrics


def gpus_of(config: RunConfig) -> tuple[float, float, bool]:
    """GPUs of the engines, of GRPO's learner, and whether they are the same."""
    cluster = config.cluster
    engines, ranks = config.engine.num_engines * cluster.engine_gpus, config.grpo.learner.num_ranks * cluster.learner_gpus
    return engines, ranks, cluster.placement == "colocated"


def _engine_metrics(before: FleetCounters, now: FleetCounters) -> dict[str, float]:
    if not now.engines:
        return {}
    wall_s = now.time_s - before.time_s
    grown = {name: _growth(before.engines, now.engines, name) for name in now.engines[0]}
    metrics = {
        "engine/requests": grown["num_requests"],
        "engine/preemptions": grown["preemptions"],
        "engine/kv_usage": max(row["kv_usage"] for row in now.engines),
        "engine/restarts": sum(row["restarts"] for row in now.engines),
    }
    if wall_s > 0:
        metrics["engine/tokens_per_s"] = grown["num_tokens"] / wall_s
        metrics["perf/engine_idle"] = min(max(1.0 - grown["busy_s"] / (wall_s * len(now.engines)), 0.0), 1.0)
    if grown["prompt_tokens"] > 0:
        metrics["engine/cached_share"] = grown["cached_tokens"] / grown["prompt_tokens"]
    if grown["request_s"] > 0:
        metrics["engine/queue_share"] = grown["waiting_s"] / grown["request_s"]
    return metrics


def _sandbox_metrics(before: FleetCounters, now: FleetCounters) -> dict[str, float]:
    if not now.workers:
        return {}
    metrics = {f"sandbox/{name}": _growth(before.workers, now.workers, name) for name in SINCE}
    metrics["sandbox/active"] = sum(row.get("active", 0.0) for row in now.workers)
    for what in ("start", "exec", "eval"):
        counts = _added_bins(before.seconds, now.seconds, what)
        found = {f"sandbox/{what}_{name}_s": quantile_s(counts, share) for name, share in QUANTILES}
        metrics |= {name: value for name, value in found.items() if value is not None}
    return metrics


def _growth(before: Sequence[Row], now: Sequence[Row], name: str) -> float:
    total = 0.0
    for index, row in enumerate(now):
        was = before[index].get(name, 0.0) if index < len(before) else 0.0
        value = row.get(name, 0.0)
        total += value - was if value >= was else value
    return total


def _added_bins(before: Sequence[Bins], now: Sequence[Bins], what: str) -> list[int]:
    total: list[int] = []
    for index, worker in enumerate(now):
        counts = list(worker.get(what, ()))
        was = list(before[index].get(what, ())) if index < len(before) else []
        if len(was) == len(counts) and sum(was) <= sum(counts):
            counts = [max(value - old, 0) for value, old in zip(counts, was, strict=True)]
        total = [a + b for a, b in zip(total, counts, strict=True)] if total else counts
    return total
