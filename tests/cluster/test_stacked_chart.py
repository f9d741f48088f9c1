from pathlib import Path
from xml.etree import ElementTree

import pytest

from cluster.metric_sinks import MetricSinks
from cluster.report_figures import seconds_figures
from cluster.stacked_chart import MOST_BARS, stacked_bars
from configs.run_config import RunConfig
from trainers.step_seconds import LABELS


def test_parts_stand_on_each_other_in_proportion() -> None:
    chart = stacked_bars("<steps>", [1, 2], {"a": [10.0, 5.0], "b": [30.0, 5.0], "nothing": [0.0, 0.0]}, "step", "s")
    root = ElementTree.fromstring(chart)
    bars = [(float(bar.get("y", "")), float(bar.get("height", ""))) for bar in root.findall("rect")]
    assert len(bars) == 4
    (low, small), (high, large) = bars[:2]
    assert large == pytest.approx(3 * small, abs=0.05)
    assert high + large == pytest.approx(low, abs=0.05)
    texts = [text.text for text in root.findall("text")]
    assert texts[0] == "<steps>"
    assert {"a", "b"} < set(texts)
    assert "nothing" not in texts


def test_many_steps_are_drawn_as_means() -> None:
    root = ElementTree.fromstring(stacked_bars("t", list(range(1, 201)), {"a": [float(i % 2) for i in range(200)]}, "x", "y"))
    heights = {bar.get("height") for bar in root.findall("rect")}
    assert len(root.findall("rect")) == 50 <= MOST_BARS
    assert len(heights) == 1


def test_without_rows_there_is_no_chart(tmp_path: Path) -> None:
    assert seconds_figures(tmp_path) == []
    assert "nothing recorded" in stacked_bars("t", [], {}, "x", "y")


def test_the_report_shows_the_ledger_of_a_run(tmp_path: Path) -> None:
    sinks = MetricSinks(RunConfig(), tmp_path)
    for step in (1, 2):
        sinks.log("grpo-seconds", step, {f"seconds/{label}": 1.0 for label in LABELS} | {"seconds/wall": float(len(LABELS))})
    sinks.close()
    (chart,) = seconds_figures(tmp_path)
    assert len(ElementTree.fromstring(chart).findall("rect")) == 2 * len(LABELS)
