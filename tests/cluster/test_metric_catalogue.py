"""The list of metrics is complete, and its page is up to date."""

import ast
import logging
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.metric_catalogue import BETTER, catalogue, metric_named, metrics_page, prometheus_name, repeated_names
from cluster.metric_sinks import STRICT, MetricSinks, UnknownMetricError, read_metrics
from configs.run_config import RunConfig
from envpool.trajectory import StopReason

ROOT = Path(__file__).parents[2]
GROUPS = {metric.group for metric in catalogue()} - {"train"}
NOT_METRICS = {"engine/learner"}


def names_in_code() -> set[tuple[str, str]]:
    """Text literals that look like a metric of one of the groups, with their file."""
    found = set()
    for package in ("trainers", "cluster", "actors"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                text = node.value if isinstance(node, ast.Constant) else None
                if isinstance(text, str) and re.fullmatch(r"([a-z]+)/[a-z0-9_]+", text) and text.split("/")[0] in GROUPS:
                    found.add((text, str(path.relative_to(ROOT))))
    return found


def test_every_metric_name_in_the_code_is_described() -> None:
    names = names_in_code()
    assert len(names) > 40
    assert {found for found in names if metric_named(found[0]) is None and found[0] not in NOT_METRICS} == set()


def test_the_list_is_whole() -> None:
    assert repeated_names() == []
    assert {metric.better for metric in catalogue()} == set(BETTER.values())
    assert all(metric.unit and metric.meaning.endswith(".") for metric in catalogue())
    assert [reason for reason in StopReason if metric_named(f"stop/{reason.value}") is None] == []


def test_the_page_is_up_to_date() -> None:
    fresh = "run: python -m cluster.metric_catalogue > docs/metrics.md"
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics_page(), fresh


def test_names_for_prometheus_are_distinct_and_valid() -> None:
    names = [prometheus_name(metric.name) for metric in catalogue() if not metric.is_pattern]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in names)


@given(st.text())
def test_any_text_is_looked_up_without_an_error(name: str) -> None:
    found = metric_named(name)
    assert found is None or found.fits(name)


def test_an_unknown_metric_raises_in_tests(tmp_path: Path) -> None:
    sinks = MetricSinks(RunConfig(), tmp_path)
    with pytest.raises(UnknownMetricError, match="reward/men"):
        sinks.log("grpo", 1, {"reward/men": 1.0})
    sinks.close()
    assert read_metrics(tmp_path, "grpo") == []


def test_an_unknown_metric_is_named_once_and_written_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(STRICT)
    sinks = MetricSinks(RunConfig(), tmp_path)
    with caplog.at_level(logging.WARNING):
        for step in (1, 2):
            sinks.log("grpo", step, {"reward/men": 1.0, "loss": 2.0})
    sinks.close()
    assert [record.getMessage() for record in caplog.records] == [
        "metrics that cluster/metric_tables.py does not describe: reward/men"
    ]
    assert [row["reward/men"] for row in read_metrics(tmp_path, "grpo")] == [1.0, 1.0]
