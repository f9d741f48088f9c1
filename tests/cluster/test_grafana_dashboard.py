"""The dashboard file: up to date, whole, and every expression names metrics of the list."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cluster.grafana_dashboard import dashboard
from cluster.metric_catalogue import catalogue, prometheus_name

FILE = Path(__file__).parents[2] / "cluster" / "grafana" / "dashboard.json"


@pytest.fixture(scope="module")
def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(FILE.read_text())["panels"]
    return found


def test_the_file_is_up_to_date() -> None:
    fresh = "run: python -m cluster.grafana_dashboard > cluster/grafana/dashboard.json"
    assert json.loads(FILE.read_text()) == dashboard(), fresh


def test_every_expression_names_a_metric_and_every_metric_has_one(panels: list[dict[str, Any]]) -> None:
    plain = {f"ray_{prometheus_name(metric.name)}" for metric in catalogue() if not metric.is_pattern}
    starts = {f"ray_{prometheus_name(metric.name.partition('<')[0])}" for metric in catalogue() if metric.is_pattern}
    shown = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    names = [match[1] for text in shown if (match := re.fullmatch(r'(\w+)\{run=~"\$run",stage=~"\$stage"\}', text))]
    pattern = r'\{__name__=~"(\w+)\.\+",run=~"\$run",stage=~"\$stage"\}'
    prefixes = [match[1] for text in shown if (match := re.fullmatch(pattern, text))]
    assert len(names) + len(prefixes) == len(shown)
    assert sorted(names) == sorted(plain)
    assert sorted(prefixes) == sorted(starts)


def test_panels_do_not_overlap(panels: list[dict[str, Any]]) -> None:
    cells: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        mine = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not mine & cells
        assert max(x for x, _ in mine) < 24
        cells |= mine
    assert len({panel["id"] for panel in panels}) == len(panels)
