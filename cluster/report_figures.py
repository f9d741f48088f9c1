"""The figures of report.html, a function per stage: what a paper about that stage would show. No data, no figure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cluster.funnel_chart import funnel_chart
from cluster.metric_sinks import read_metrics
from cluster.run_policies import POLICY_LABELS
from cluster.stacked_chart import stacked_bars
from cluster.svg_charts import Series, bar_chart, line_chart
from cluster.viewer.task_lookup import task_list
from envpool.curation.funnel import funnel_from_dict
from trainers.step_seconds import LABELS

Records = Mapping[str, dict[str, Any]]
EVALUATIONS = tuple((f"eval-{name}", label) for name, label in POLICY_LABELS.items())
STEP = "optimizer step"
DIAGONAL = Series([(0.0, 0.0), (1.0, 1.0)])
MOST_BARS = 8


def task_figures(tasks_folder: Path) -> list[str]:
    """Where the tasks come from, and the repositories with the most."""
    tasks = task_list(tasks_folder)
    sources = Counter(f"{row.get('source') or '?'}, {row.get('split') or '?'}" for row in tasks)
    repos = Counter(str(row.get("repo", "")) for row in tasks)
    if not tasks:
        return []
    shown = [(name.rpartition("/")[2][:12], float(count)) for name, count in repos.most_common(MOST_BARS)]
    return [
        bar_chart("Tasks by source and split", [(name, float(count)) for name, count in sources.items()], "source", "tasks"),
        bar_chart(f"Repositories with the most tasks, of {len(repos)}", shown, "repository", "tasks"),
    ]


def rollout_figures(records: Records, table: Mapping[str, Any]) -> list[str]:
    """Teachers' success, how long their episodes are and why they end."""
    charts = []
    if (rollout := records.get("rollout")) is not None:
        bars = [(name, row["resolved"] / max(row["episodes"], 1)) for name, row in rollout["by_policy"].items()]
        charts.append(bar_chart("Teachers: share of resolved episodes", bars, "teacher", "resolved"))
    return charts + episode_figures(table, "rollout", "Rollouts")


def episode_figures(table: Mapping[str, Any], stage: str, title: str) -> list[str]:
    """Turns, tokens and ends of a stage's stored episodes, from the index that the viewer uses."""
    if stage not in table["stages"]:
        return []
    code, rows = table["stages"].index(stage), table["rows"]
    places = [at for at, found in enumerate(rows["stage"]) if found == code]
    ends = Counter(table["stops"][rows["stop"][at]] for at in places)
    shares = [(name.replace("_", " "), count / len(places)) for name, count in ends.most_common(MOST_BARS)]
    return [
        bar_chart(f"{title}: turns", histogram([rows["num_turns"][at] for at in places]), "turns", "episodes"),
        bar_chart(f"{title}: tokens", histogram([rows["num_tokens"][at] for at in places]), "tokens", "episodes"),
        bar_chart(f"{title}: why episodes end", shares, "end", "share"),
    ]


def curation_figures(records: Records) -> list[str]:
    """Difficulty of the tasks, and what every filter left."""
    if (curate := records.get("curate")) is None:
        return []
    bins = [(f".{i}" if i < 9 else ".9-1", count) for i, count in enumerate(curate["histogram"])]
    funnels = [funnel_from_dict(row) for row in curate.get("funnels", ())]
    kept = (
        funnel_chart("What survives curation: trajectories", funnels)
        if funnels
        else bar_chart("What survives curation", curate["funnel"], "filter", "trajectories")
    )
    return [bar_chart("Difficulty: mean reward per task", bins, "mean reward of the teachers' episodes", "tasks"), kept]


def learning_figures(root: Path, stage: str, title: str) -> list[str]:
    """Loss, gradient norm and rate of a supervised stage."""
    rows = read_metrics(root, stage)
    wanted = (("loss", "loss", "nats per token"), ("gradient norm", "grad_norm", "norm"), ("learning rate", "lr", "rate"))
    return [line_chart(f"{title}: {name}", {name: curve(rows, key)}, STEP, unit) for name, key, unit in wanted if has(rows, key)]


def grpo_figures(root: Path) -> list[str]:
    """Reward, lengths, ends, spread, entropy, the gap to the engine, and where a step's seconds go."""
    rows = read_metrics(root, "grpo")
    if not rows:
        return []
    stops = sorted({key for row in rows for key in row if key.startswith("stop/") and row[key]})
    groups: tuple[tuple[str, dict[str, str], str, tuple[float, float] | None], ...] = (
        ("GRPO: training tasks", {"shaped reward": "reward/mean", "pass@1": "rollout/resolved"}, "mean of a step", (0, 1)),
        ("GRPO: turns per episode", {"turns": "rollout/turns"}, "turns", None),
        ("GRPO: tokens per episode", {"all": "rollout/tokens", "sampled": "rollout/completion_tokens"}, "tokens", None),
        ("GRPO: why episodes end", {key.removeprefix("stop/").replace("_", " "): key for key in stops}, "share", (0, 1)),
        ("GRPO: groups without spread", {"share": "rollout/zero_spread"}, "share", (0, 1)),
        ("GRPO: entropy (estimate)", {"entropy": "entropy_estimate"}, "nats per token", None),
        ("GRPO: engine against learner", {"mean gap": "logprob_gap", "largest": "logprob_gap_max"}, "|log-prob gap|", None),
        ("GRPO: clipped tokens", {"low": "clip_fraction_low", "high": "clip_fraction_high"}, "share", None),
        ("GRPO: gradient norm", {"norm": "grad_norm"}, "norm", None),
        ("GRPO: idle", {"engines": "perf/engine_idle", "learner": "perf/learner_idle"}, "share of the step", (0, 1)),
    )
    charts = [
        line_chart(title, {name: curve(rows, key) for name, key in keys.items() if has(rows, key)}, STEP, unit, limits)
        for title, keys, unit, limits in groups
        if any(has(rows, key) for key in keys.values())
    ]
    return charts + seconds_figures(root)


def seconds_figures(root: Path) -> list[str]:
    """Where the seconds of every GRPO step went."""
    rows = read_metrics(root, "grpo-seconds")
    parts = {label: [row.get(f"seconds/{label}", 0.0) for row in rows] for label in LABELS}
    return [stacked_bars("GRPO: where seconds go", [row["step"] for row in rows], parts, STEP, "s")] if rows else []


def evaluation_figures(records: Records) -> list[str]:
    """Held-out pass@1 of every policy, and pass@k."""
    found = [(label, records[name]["pass_at"]) for name, label in EVALUATIONS if name in records]
    if not found:
        return []
    charts = [bar_chart("Held-out pass@1", [(label, pass_at["1"][0]) for label, pass_at in found], "policy", "pass@1")]
    if any(len(pass_at) > 1 for _, pass_at in found):
        lines = {label: band(pass_at) for label, pass_at in found}
        charts.append(line_chart("Held-out pass@k", lines, "k episodes", "resolved", (0, 1)))
    return charts


def world_model_figures(root: Path, records: Records) -> list[str]:
    """Its loss, and the reliability diagram: what it said against what was so, before and after calibration."""
    charts = learning_figures(root, "world-model", "World model")
    scorer = records.get("tts", {}).get("scorer", {})
    lines = {
        name: Series([(one["mean_probability"], one["resolved_share"]) for one in scorer[key]])
        for name, key in (("as said", "reliability_raw"), ("calibrated", "reliability"))
        if scorer.get(key)
    }
    if lines:
        diagram = {"perfect": DIAGONAL, **lines}
        charts.append(line_chart("SWR: reliability", diagram, "probability it gave", "share that was resolved", (0, 1)))
    return charts


def scaling_figures(records: Records) -> list[str]:
    """TTS@K between pass@1 and Pass@K, and what more turns buy."""
    charts = []
    if tts := records.get("tts"):
        lines = {name: band(tts[key]) for name, key in (("Pass@K", "pass_at"), ("TTS@K", "tts_at"))}
        charts.append(line_chart("Test-time scaling: candidates", lines, "K candidates", "resolved", (0, 1)))
    evaluations = ((name.removeprefix("eval-"), record.get("turn_budgets")) for name, record in records.items())
    if turns := {policy: band(table) for policy, table in evaluations if table}:
        charts.append(line_chart("Test-time scaling: turns", turns, "turn budget", "resolved", (0, 1)))
    return charts


def timing_figures(records: Records) -> list[str]:
    bars = [(name.replace("-", "_"), record["seconds"]) for name, record in records.items() if "seconds" in record]
    return [bar_chart(f"Seconds per stage, {sum(value for _, value in bars):,.0f} in all", bars, "stage", "s")] if bars else []


def histogram(values: Sequence[float], most: int = MOST_BARS) -> list[tuple[str, float]]:
    """At most `most` equal bins of whole width, named by their first value.

    >>> histogram([1, 1, 2, 9], 5)
    [('1', 3.0), ('3', 0.0), ('5', 0.0), ('7', 0.0), ('9', 1.0)]
    """
    if not values:
        return []
    low, high = min(values), max(values)
    width = max(1, -(-(int(high) - int(low) + 1) // most))
    edges = np.arange(int(low), int(high) + width + 1, width)
    counts, _ = np.histogram(values, edges)
    return [(f"{edge:,}", float(count)) for edge, count in zip(edges.tolist(), counts, strict=False)]


def has(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(row.get(key) is not None for row in rows)


def curve(rows: Sequence[Mapping[str, Any]], key: str) -> Series:
    return Series([(row["step"], row[key]) for row in rows if row.get(key) is not None])


def band(estimates: Mapping[str, Sequence[float]]) -> Series:
    """`{"k": [value, low, high, ...]}` as a line with its interval."""
    items = sorted((int(k), v) for k, v in estimates.items())
    return Series([(k, v[0]) for k, v in items], [v[1] for _, v in items], [v[2] for _, v in items])
