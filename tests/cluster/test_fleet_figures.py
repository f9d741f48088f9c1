"""From running counts of engines and sandboxes to a step's metrics."""

import pytest

from cluster.fleet_figures import FleetCounters, fleet_metrics, gpus_of, idle_metrics
from cluster.metric_catalogue import metric_named
from configs.cluster_config import ClusterConfig
from configs.model_config import EngineConfig
from configs.run_config import RunConfig
from envpool.pool.seconds_histogram import NUM_BINS, SecondsHistogram, quantile_s

ENGINE = {
    "num_requests": 10.0,
    "num_tokens": 1000.0,
    "preemptions": 1.0,
    "kv_usage": 0.5,
    "restarts": 0.0,
    "busy_s": 5.0,
    "prompt_tokens": 100.0,
    "cached_tokens": 40.0,
    "request_s": 20.0,
    "waiting_s": 2.0,
}


def grown(row: dict[str, float], **values: float) -> dict[str, float]:
    return {name: value + values.get(name, 0.0) for name, value in row.items()}


def bins(*seconds: float) -> list[int]:
    histogram = SecondsHistogram()
    for value in seconds:
        histogram.add(value)
    return histogram.counts


def test_what_engines_did_in_between() -> None:
    added = {"num_requests": 4, "num_tokens": 300, "busy_s": 5, "prompt_tokens": 50, "cached_tokens": 25, "request_s": 8}
    later = grown(ENGINE, **added, waiting_s=2)
    metrics = fleet_metrics(FleetCounters(100.0, [ENGINE, ENGINE]), FleetCounters(110.0, [later, {**ENGINE, "kv_usage": 0.9}]))
    assert metrics == {
        "engine/requests": 4.0,
        "engine/preemptions": 0.0,
        "engine/kv_usage": 0.9,
        "engine/restarts": 0.0,
        "engine/tokens_per_s": 30.0,
        "perf/engine_idle": 0.75,
        "engine/cached_share": 0.5,
        "engine/queue_share": 0.25,
    }


def test_a_process_that_started_again_counts_from_zero() -> None:
    fresh = {**dict.fromkeys(ENGINE, 0.0), "num_requests": 3.0}
    assert fleet_metrics(FleetCounters(1.0, [ENGINE]), FleetCounters(2.0, [fresh]))["engine/requests"] == 3.0
    old, new = {"exec": bins(*[9.0] * 5)}, {"exec": bins(0.1, 0.1)}
    metrics = fleet_metrics(FleetCounters(1.0, (), [{}], [old]), FleetCounters(2.0, (), [{}], [new]))
    assert metrics["sandbox/exec_p95_s"] == pytest.approx(0.1, rel=0.05)


def test_what_sandboxes_did_in_between() -> None:
    before = FleetCounters(0.0, (), [{"started": 5.0, "active": 2.0}], [{"exec": bins(50.0, 50.0)}])
    now = FleetCounters(
        9.0,
        (),
        [{"started": 7.0, "lost": 1.0, "active": 3.0}, {"started": 4.0, "active": 1.0}],
        [{"exec": bins(50.0, 50.0, *[0.2] * 9, 4.0)}, {"exec": bins(*[0.2] * 10), "start": bins(1.5)}],
    )
    metrics = fleet_metrics(before, now)
    assert {name: metrics[f"sandbox/{name}"] for name in ("started", "lost", "active")} == {"started": 6, "lost": 1, "active": 4}
    assert metrics["sandbox/exec_p50_s"] == pytest.approx(0.2, rel=0.05)
    assert metrics["sandbox/start_p95_s"] == pytest.approx(1.5, rel=0.05)
    assert "sandbox/eval_p50_s" not in metrics
    assert [name for name in metrics if metric_named(name) is None] == []


def test_idle_gpus() -> None:
    assert idle_metrics(0.25, 1.0, 4.0, (2.0, 2.0, False)) == {"perf/learner_idle": 0.75, "perf/gpu_idle": 0.5}
    assert idle_metrics(0.75, 2.0, 4.0, (1.0, 1.0, True)) == {"perf/learner_idle": 0.5, "perf/gpu_idle": 0.25}
    assert idle_metrics(0.25, 1.0, 4.0, (0.0, 0.0, False)) == {"perf/learner_idle": 0.75}
    assert idle_metrics(0.25, 1.0, 0.0, (1.0, 1.0, False)) == {}
    config = RunConfig(engine=EngineConfig(num_engines=3), cluster=ClusterConfig(engine_gpus=2, learner_gpus=4))
    assert gpus_of(config) == (6, 4, False)


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.0123, 1.0, 61.0, 7200.0])
def test_quantiles_are_within_a_bin(seconds: float) -> None:
    assert quantile_s(bins(seconds), 0.5) == pytest.approx(max(seconds, 0.001), rel=0.05)


def test_quantiles_of_many_and_of_none() -> None:
    counts = bins(*(float(value) for value in range(1, 101)))
    assert quantile_s(counts, 0.5) == pytest.approx(50, rel=0.06)
    assert quantile_s(counts, 0.95) == pytest.approx(95, rel=0.06)
    assert quantile_s([0] * NUM_BINS, 0.5) is None
    assert sum(bins(-1.0, 1e9)) == 2
