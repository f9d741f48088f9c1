"""report.html: one self-contained page with what a run found. Written anew after every stage."""

from html import escape
from string import Template
from typing import Any

import orjson

from cluster.report_figures import (
    EVALUATIONS,
    curation_figures,
    evaluation_figures,
    grpo_figures,
    learning_figures,
    rollout_figures,
    scaling_figures,
    task_figures,
    timing_figures,
    world_model_figures,
)
from cluster.run_folder import RunFolder, write_atomically
from cluster.run_policies import POLICY_LABELS
from cluster.trajectory_page import sample_trajectory_html
from cluster.viewer.run_index import RunIndex
from configs.grpo_config import GRPOConfig

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


def write_report(folder: RunFolder) -> None:
    """Write report.html from stages.json, metrics.jsonl and the stored trajectories."""
    records, root = folder.stage_records(), folder.root
    versions = orjson.loads((root / "versions.json").read_bytes())
    settings = (root / "config.yaml").read_text(encoding="utf-8")
    table = RunIndex(root, GRPOConfig().advantage, repo_of=lambda name: name).table()
    sections = [
        section("Results", results_html(records)),
        section("Tasks", grid(task_figures(folder.tasks))),
        section("Rollouts", grid(rollout_figures(records, table))),
        section("Curation", grid(curation_figures(records))),
        section("Supervised fine-tuning", grid(learning_figures(root, "sft", "SFT"))),
        section("Reinforcement learning", grid(grpo_figures(root))),
        section("Evaluation", grid(evaluation_figures(records))),
        section("World model", grid(world_model_figures(root, records))),
        section("Test-time scaling", grid(scaling_figures(records))),
        section("Time", grid(timing_figures(records))),
        section("What could not be read", "".join(f"<p>{escape(text)}</p>" for text in table["problems"])),
        section("One trajectory to read", sample_trajectory_html(folder)),
        section("All trajectories", f"<p class='s'>in the browser: <code>swe-master view {escape(str(root))}</code></p>"),
        section("Configuration", f"<details><summary>config.yaml</summary><pre>{escape(settings)}</pre></details>"),
    ]
    subtitle = " · ".join(f"{name} {version}" for name, version in versions.items())
    page = PAGE.substitute(title=escape(root.name), subtitle=escape(subtitle), body="".join(sections))
    write_atomically(root / "report.html", page.encode())


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
            before = POLICY_LABELS[record.get("gain_over", "sft")]
            rows.append((f"{label} − {before}, pass@1, paired", percent(record["gain"], sign="+"), size))
    if (tts := records.get("tts")) is not None:
        largest = max(tts["tts_at"], key=int)
        size = f"{tts['num_tasks']} held-out tasks, {tts['context']} context"
        rows.append((f"TTS@{largest}", percent(tts["tts_at"][largest]), size))
        rows.append((f"share of pass@1 → pass@{largest} closed", percent(tts["closed_share"]), size))
        if "chosen" in tts:
            where = f"{tts['chosen']['tasks']} tasks, patches in predictions_tts.jsonl, why in choices_tts.jsonl"
            rows.append((f"patches chosen among {largest}", percent(tts["chosen"]["resolved"]), where))
        scorer = tts["scorer"]
        quality = scorer.get("calibrated")
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
