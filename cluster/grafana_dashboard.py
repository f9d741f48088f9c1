"""The Grafana dashboard of a run, made from the list of metrics; cluster/grafana/dashboard.json is printed from here:

python -m cluster.grafana_dashboard > cluster/grafana/dashboard.json
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

from cluster.metric_catalogue import Metric, prometheus_name, sections

Object = dict[str, Any]
WIDTH, HEIGHT, ROW_HEIGHT, GRID = 8, 7, 1, 24
MOST_LINES = 6
"""In one panel."""
UNITS = {"s": "s", "share": "percentunit", "GiB": "gbytes", "USD": "currencyUSD"}
"""Our unit -> Grafana's; the others have none."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
FILTER = '{run=~"$run",stage=~"$stage"}'


def dashboard() -> Object:
    """A row per section of docs/metrics.md, its metrics of one unit together, at most MOST_LINES in a panel."""
    panels: list[Object] = []
    y = 0
    for title, metrics in sections():
        panels.append(
            {"type": "row", "title": title, "collapsed": False, "gridPos": _place(0, y, GRID, ROW_HEIGHT), "panels": []}
        )
        y += ROW_HEIGHT
        x = 0
        for unit, together in panels_of(metrics):
            if x + WIDTH > GRID:
                x, y = 0, y + HEIGHT
            panels.append(_panel(unit, together, _place(x, y, WIDTH, HEIGHT)))
            x += WIDTH
        y += HEIGHT
    return {
        "title": "swe-master runs",
        "uid": "swe-master-runs",
        "schemaVersion": 39,
        "tags": ["ray", "swe-master"],
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [_source_variable(), _variable("run"), _variable("stage")]},
        "panels": [{"id": number, **panel} for number, panel in enumerate(panels, start=1)],
    }


def panels_of(metrics: tuple[Metric, ...]) -> Iterator[tuple[str, tuple[Metric, ...]]]:
    """(unit, metrics) of every panel of a section."""
    for unit in dict.fromkeys(metric.unit for metric in metrics):
        alike = tuple(metric for metric in metrics if metric.unit == unit)
        for start in range(0, len(alike), MOST_LINES):
            yield unit, alike[start : start + MOST_LINES]


def expression(metric: Metric) -> str:
    """PromQL of its newest values; for a pattern, of all that fit."""
    name = f"ray_{prometheus_name(metric.name.partition('<')[0])}"
    return f'{{__name__=~"{name}.+",run=~"$run",stage=~"$stage"}}' if metric.is_pattern else name + FILTER


def _panel(unit: str, metrics: tuple[Metric, ...], place: Object) -> Object:
    described = "\n".join(f"{metric.name}: {metric.meaning}" for metric in metrics)
    return {
        "type": "timeseries",
        "title": ", ".join(metric.name for metric in metrics),
        "description": described,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": UNITS.get(unit, "none"), "custom": {"axisLabel": unit}}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "expr": expression(metric),
                "legendFormat": ("{{__name__}}" if metric.is_pattern else metric.name) + " {{run}} {{stage}}",
            }
            for index, metric in enumerate(metrics)
        ],
    }


def _place(x: int, y: int, width: int, height: int) -> Object:
    return {"x": x, "y": y, "w": width, "h": height}


def _source_variable() -> Object:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"}


def _variable(label: str) -> Object:
    return {
        "name": label,
        "type": "query",
        "datasource": SOURCE,
        "query": f'label_values({{__name__=~"ray_swe_master_.+"}}, {label})',
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dashboard(), indent=1) + "\n")
