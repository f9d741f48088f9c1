"""Tables and curves of an experiment: per arm the mean over seeds, with an interval over tasks. Pure."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.svg_charts import Series, line_chart
from verifier.estimates import Interval, bootstrap_interval, paired_difference

MEASURES = {"solved_per_task": "pass@1", "loss_per_task": "validation loss"}
"""Field of a record, and what it is called."""


@dataclass(frozen=True)
class ArmSummary:
    """One arm: each measure's mean with its 95 % interval (tasks resampled, each task the mean of its seeds), and by seed."""

    arm: str
    curve: str
    share: float
    samples: float
    seeds: tuple[int, ...]
    interval: dict[str, Interval]
    by_seed: dict[str, tuple[float, ...]]
    per_task: dict[str, dict[str, float]]


def summarise(records: Sequence[dict[str, Any]]) -> list[ArmSummary]:
    """One summary per arm, in the order of the records."""
    arms: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in records:
        arms[record["arm"]].append(record)
    return [_summary(rows) for rows in arms.values()]


def _summary(rows: list[dict[str, Any]]) -> ArmSummary:
    per_task = {measure: _mean_over_seeds([row[measure] for row in rows]) for measure in MEASURES}
    return ArmSummary(
        rows[0]["arm"],
        rows[0]["curve"],
        rows[0]["share"],
        float(np.mean([row["samples"] for row in rows])),
        tuple(row["seed"] for row in rows),
        {measure: bootstrap_interval(list(values.values())) for measure, values in per_task.items()},
        {measure: tuple(float(np.mean(list(row[measure].values()))) for row in rows) for measure in MEASURES},
        per_task,
    )


def _mean_over_seeds(per_seed: list[dict[str, float]]) -> dict[str, float]:
    """Tasks that every seed has: {"a": 1.0} and {"a": 0.0, "b": 1.0} give {"a": 0.5}."""
    common = sorted(set.intersection(*(set(values) for values in per_seed)))
    return {task: float(np.mean([values[task] for values in per_seed])) for task in common}


def difference(first: ArmSummary, second: ArmSummary, measure: str) -> Interval:
    """`second` less `first` over the tasks that both have, with its paired interval."""
    common = sorted(first.per_task[measure].keys() & second.per_task[measure].keys())
    before, after = ([arm.per_task[measure][task] for task in common] for arm in (first, second))
    return paired_difference(before, after)


def curve_charts(summaries: Sequence[ArmSummary]) -> dict[str, str]:
    """One chart per measure over the share of the data, in per cent; bands are the intervals."""
    charts = {}
    for measure, name in MEASURES.items():
        curves: dict[str, list[ArmSummary]] = defaultdict(list)
        for arm in sorted(summaries, key=lambda one: one.share):
            curves[arm.curve].append(arm)
        series = {
            curve: Series(
                [(100 * arm.share, arm.interval[measure].mean) for arm in arms],
                [arm.interval[measure].low for arm in arms],
                [arm.interval[measure].high for arm in arms],
            )
            for curve, arms in curves.items()
        }
        lows = [arm.interval[measure].low for arm in summaries]
        highs = [arm.interval[measure].high for arm in summaries]
        room = 0.05 * (max(highs) - min(lows)) or 0.01
        y_range = (max(0.0, min(lows) - room), max(highs) + room)
        title = f"{name} over data, mean of seeds"
        charts[measure] = line_chart(title, series, "share of the training trajectories, %", name, y_range)
    return charts


def markdown_table(summaries: Sequence[ArmSummary]) -> str:
    """One line per arm; brackets hold 95 % intervals, then the values by seed."""
    lines = ["| arm | samples | pass@1 | by seed | validation loss | by seed |", "|---|---|---|---|---|---|"]
    for arm in summaries:
        solved, loss = arm.interval["solved_per_task"], arm.interval["loss_per_task"]
        lines.append(
            f"| {arm.arm} | {arm.samples:,.0f} | {solved.mean:.1%} [{solved.low:.1%}, {solved.high:.1%}] | "
            f"{', '.join(f'{value:.1%}' for value in arm.by_seed['solved_per_task'])} | "
            f"{loss.mean:.4f} [{loss.low:.4f}, {loss.high:.4f}] | "
            f"{', '.join(f'{value:.4f}' for value in arm.by_seed['loss_per_task'])} |"
        )
    return "\n".join(lines)
