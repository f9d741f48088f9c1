"""report.html: one self-contained page with what a run found. Written anew after every stage."""

from html import escape
from string import Template
from typing import Any

import orjson

from cluster.funnel_chart import funnel_chart
from cluster.metric_sinks import read_metrics
from cluster.run_folder import RunFolder, write_atomically
from cluster.svg_charts import Series, bar_chart, line_chart
from cluster.trajectory_page import sample_trajectory_html
from envpool.funnel import funnel_from_dict

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1340px;padding:24px;color:#1d2430;background:#fff}
h1{font-size:24px;margin:0}h2{font-size:18px;margin:32px 0 10px;border-bottom:1px solid #e3e7ee;padding-bottom:4px}
p.s{color:#5c6675;margin:2px 0 14px}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(380px,1fr));gap:18px}
@media(min-width:860px){.grid>:has(svg.wide){grid-column:span 2}}
.grid>*{border:1px solid #e3e7ee;border-radius:8px;padding:6px}
svg{width:100%;height:auto;display:block}svg .t{font:600 13px system-ui;fill:#1d2430}svg .a{font:10.5px system-ui;fill:#5c6675}
svg .g{stroke:#e9edf3;stroke-width:1}.none{color:#5c6675;padding:16px}
table{border-collapse:collapse}td,th{padding:4px 14px 4px 0;text-align:left;border-bottom:1px solid #eef1f5;vertical-align:top}
td.n{text-align:right;font-variant-numeric:tabular-nums}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f6f8fb;border-radius:6px;padding:8px 10px;margin:4px 0;font-size:13px}
pre.agent{background:#eef4ff;border-left:3px solid #2f6fde}pre.add{background:#eefaf3}
details{margin:6px 0}summary{cursor:pointer;color:#2f6fde}
</style></head><body><h1>$title</h1><p class="s">$subtitle</p>$body</body></html>
""")


EVALUATIONS = (("eval-base", "Base"), ("eval-sft", "SFT"), ("eval-grpo", "GRPO"))


def write_report(folder: RunFolder) -> None:
    """Write report.html from stages.json, metrics.jsonl and the stored trajectories."""
    records = folder.stage_records()
    versions = orjson.loads((folder.root / "versions.json").read_bytes())
    settings = (folder.root / "config.yaml").read_text(encoding="utf-8")
    sections = [
        section("Results", results_html(records)),
        section("Learning curves", grid(learning_charts(folder, records))),
        section("Tasks and curation", grid(curation_charts(records))),
        section("Test-time scaling", grid(scaling_charts(records))),
        section("Time", grid(timing_charts(records))),
        section("One trajectory to read", sample_trajectory_html(folder)),
        section("Configuration", f"<details><summary>config.yaml</summary><pre>{escape(settings)}</pre></details>"),
    ]
    subtitle = " · ".join(f"{name} {version}" for name, version in versions.items())
    page = PAGE.substitute(title=escape(folder.root.name), subtitle=escape(subtitle), body="".join(sections))
    write_atomically(folder.root / "report.html", page.encode())


def section(title: str, body: str) -> str:
    return f"<h2>{escape(title)}</h2>{body}" if body else ""


def grid(charts: list[str]) -> str:
    return f'<div class="grid">{"".join(f"<div>{chart}</div>" for chart in charts)}</div>' if charts else ""


def result_rows(records: dict[str, dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(quantity, value with its 95 % interval, how many) of everything measured so far."""
    rows = []
    for name, label in EVALUATIONS:
        if (record := records.get(name)) is None:
            continue
        size = f"{record['num_tasks']} held-out tasks × {record['num_samples']}, seed {record['seed']}"
        largest = max(record["pass_at"], key=int)
        rows.append((f"{label} pass@1", percent(record["pass_at"]["1"]), size))
        if largest != "1":
            rows.append((f"{label} pass@{largest}", percent(record["pass_at"][largest]), size))
        if "gain" in record:
            rows.append((f"{label} − SFT, pass@1, paired", percent(record["gain"], sign="+"), size))
    if (tts := records.get("tts")) is not None:
        largest = max(tts["tts_at"], key=int)
        size = f"{tts['num_tasks']} held-out tasks, {tts['context']} context"
        rows.append((f"TTS@{largest}", percent(tts["tts_at"][largest]), size))
        rows.append((f"share of pass@1 → pass@{largest} closed", percent(tts["closed_share"]), size))
        scorer = tts["scorer"]
        quality = scorer["calibrated"]
        if quality:
            size = f"{scorer['num']} candidates, {tts['context']} context"
            rows.append(("SWR accuracy", percent(quality["accuracy"]), size))
            values = " / ".join(f"{quality[name][0]:.3f}" for name in ("precision", "recall", "auc", "ece"))
            rows.append(("SWR precision / recall / AUC / ECE, calibrated", values, size))
    return rows


def percent(estimate: list[float], sign: str = "") -> str:
    """`[value, low, high]` in percent.

    >>> percent([0.5, 0.4, 0.6])
    '50.0 % [40.0, 60.0]'
    """
    if any(number is None or number != number for number in estimate):
        return "undefined"
    value, low, high = (100 * number for number in estimate)
    return f"{value:{sign}.1f} % [{low:{sign}.1f}, {high:{sign}.1f}]"


def results_html(records: dict[str, dict[str, Any]]) -> str:
    rows = result_rows(records)
    if not rows:
        return '<p class="none">nothing evaluated yet</p>'
    cells = "".join(f"<tr><td>{escape(a)}</td><td><b>{escape(b)}</b></td><td>{escape(c)}</td></tr>" for a, b, c in rows)
    return f"<table><tr><th>quantity</th><th>value, 95 % interval</th><th>measured on</th></tr>{cells}</table>"


def learning_charts(folder: RunFolder, records: dict[str, dict[str, Any]]) -> list[str]:
    charts = []
    for stage, title in (("sft", "SFT loss"), ("world-model", "World model loss")):
        if rows := read_metrics(folder.root, stage):
            charts.append(line_chart(title, {"loss": curve(rows, "loss")}, "optimizer step", "nats per token"))
    rows = read_metrics(folder.root, "grpo")
    if rows:
        rewards = {"shaped reward": curve(rows, "reward/mean"), "pass@1": curve(rows, "rollout/resolved")}
        charts.append(line_chart("GRPO: training tasks", rewards, "optimizer step", "mean over the step's episodes", (0, 1)))
        charts.append(line_chart("GRPO: turns per episode", {"turns": curve(rows, "rollout/turns")}, "optimizer step", "turns"))
        stops = sorted({key for row in rows for key in row if key.startswith("stop/")})
        shares = {key.removeprefix("stop/"): curve(rows, key) for key in stops}
        charts.append(line_chart("GRPO: why episodes end", shares, "optimizer step", "share", (0, 1)))
    bars = [(label, records[name]["pass_at"]["1"][0]) for name, label in EVALUATIONS if name in records]
    if bars:
        charts.append(bar_chart("Held-out pass@1", bars, "policy", "pass@1"))
    return charts


def curve(rows: list[dict[str, Any]], key: str) -> Series:
    return Series([(row["step"], row[key]) for row in rows if key in row])


def curation_charts(records: dict[str, dict[str, Any]]) -> list[str]:
    charts = []
    if (curate := records.get("curate")) is not None:
        histogram = [(f".{i}" if i < 9 else ".9-1", count) for i, count in enumerate(curate["histogram"])]
        charts.append(bar_chart("Difficulty: mean reward per task", histogram, "mean reward of the teachers' episodes", "tasks"))
        funnels = [funnel_from_dict(row) for row in curate.get("funnels", ())]
        if funnels:
            charts.append(funnel_chart("What survives curation: trajectories", funnels))
        else:
            charts.append(bar_chart("What survives curation", curate["funnel"], "filter", "trajectories"))
    if (rollout := records.get("rollout")) is not None:
        bars = [(name, row["resolved"] / max(row["episodes"], 1)) for name, row in rollout["by_policy"].items()]
        charts.append(bar_chart("Teachers: share of resolved episodes", bars, "teacher", "resolved"))
    return charts


def scaling_charts(records: dict[str, dict[str, Any]]) -> list[str]:
    if (tts := records.get("tts")) is None:
        return []
    lines = {name: band(tts[key]) for name, key in (("Pass@K", "pass_at"), ("TTS@K", "tts_at"))}
    return [line_chart("Test-time scaling", lines, "K candidates", "resolved", (0, 1))]


def band(estimates: dict[str, list[float]]) -> Series:
    items = sorted((int(k), v) for k, v in estimates.items())
    return Series([(k, v[0]) for k, v in items], [v[1] for _, v in items], [v[2] for _, v in items])


def timing_charts(records: dict[str, dict[str, Any]]) -> list[str]:
    bars = [(name.replace("-", "_"), record["seconds"]) for name, record in records.items()]
    return [bar_chart(f"Seconds per stage, {sum(value for _, value in bars):,.0f} in all", bars, "stage", "s")] if bars else []
