"""The latency benchmark's arithmetic; its measurements need a Docker engine and minutes."""

from xml.etree import ElementTree

from benchmarks.sandbox_latency import plot, summary, targets

POINTS = [
    {"sandboxes": count, "per_s": rate, "failures": 0} for count, rate in ((1, 1000.0), (8, 2000.0), (32, 1900.0), (64, 10.0))
]
FOUND = {
    "docker": {
        "true": {"p50_ms": 0.5, "p99_ms": 12.0},
        "exec_per_call": {"p50_ms": 40.0},
        "throughput": POINTS,
        "exec_throughput": POINTS,
        "cold_start": {"docker": {"p50_ms": 300.0}, "engine_create_start": {"p50_ms": 250.0}},
        "warm_acquire": {"p50_ms": 25.0},
        "start": {"per_idle_sandbox": {"kib": 40.0, "threads": 0.0}},
    },
    "process": {},
    "swe_rex": {"true": {"p50_ms": 20.0}},
}


def test_summary_takes_ranks_that_were_measured() -> None:
    assert summary([0.001 * number for number in range(1, 101)]) == {"p50_ms": 50.0, "p90_ms": 90.0, "p99_ms": 99.0, "n": 100}
    assert summary([0.002]) == {"p50_ms": 2.0, "p90_ms": 2.0, "p99_ms": 2.0, "n": 1}


def test_missed_targets_are_told_as_missed() -> None:
    rows = {row["what"]: (row["measured"], row["met"]) for row in targets(FOUND)}
    assert rows == {
        "true, p50 ms": (0.5, True),
        "true, p99 ms": (12.0, False),
        "times faster than one exec per call": (80.0, True),
        "times faster than SWE-ReX's session": (40.0, False),
        "commands/s of 32 sandboxes": (1900.0, False),
        "failures of 64 sandboxes": (0, True),
        "cold start / engine's create+start": (1.2, True),
        "acquire from the warm pool, p50 ms": (25.0, False),
        "KiB of the driver per idle sandbox": (40.0, True),
        "threads per idle sandbox": (0.0, True),
    }


def test_plot_is_a_picture_of_its_own() -> None:
    root = ElementTree.fromstring(plot(FOUND))
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2
    assert len({line.get("points") for line in lines}) == 1  # the same numbers, the same line
