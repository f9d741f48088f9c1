"""The figures of benchmarks.world_model_quality: reliability, TTS@K, pass@1 of the arms."""

from pathlib import Path
from typing import Any

from cluster.svg_charts import Series, bar_chart, line_chart, standalone_svg


def write_charts(result: dict[str, Any], folder: Path) -> None:
    """Write world_model_*.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    first = next(iter(result["seeds"].values()))
    charts = {"reliability": reliability_chart(result), "tts": tts_chart(first["tts"])}
    if "arms" in result:
        charts["arms"] = arms_chart(first["eval-sft"], result["arms"])
        charts["tts_curator"] = tts_chart(result["arms"]["curator"]["tts"])
    for name, chart in charts.items():
        (folder / f"world_model_{name}.svg").write_text(standalone_svg(chart), encoding="utf-8")


def reliability_chart(result: dict[str, Any]) -> str:
    """Share resolved over mean calibrated probability, a line per seed, and the diagonal."""
    lines = {"calibrated would be": Series([(0.0, 0.0), (1.0, 1.0)])}
    for seed, records in result["seeds"].items():
        bins = records["tts"]["scorer"]["reliability"]
        lines[f"seed {seed}"] = Series([(one["mean_probability"], one["resolved_share"]) for one in bins])
    return line_chart("Held-out candidates, deployable context", lines, "mean probability", "really resolved", (0, 1))


def tts_chart(tts: dict[str, Any]) -> str:
    """TTS@K and Pass@K with their bands."""
    lines = {"Pass@K": band(tts["pass_at"]), "TTS@K": band(tts["tts_at"])}
    return line_chart(f"Test-time scaling, {tts['context']} context", lines, "K candidates", "resolved", (0, 1))


def arms_chart(before: dict[str, Any], arms: dict[str, Any]) -> str:
    """pass@1 by real tests: before GRPO, with real tests, with simulated executions and rewards."""
    bars = [("SFT", before["pass_at"]["1"][0])]
    bars += [(label, arms[name]["eval"]["pass_at"]["1"][0]) for name, label in (
        ("grpo-real", "GRPO,_real tests"), ("grpo-simulated", "GRPO,_simulated"))]  # fmt: skip
    return bar_chart("Held-out pass@1, measured with real tests", bars, "policy", "pass@1")


def band(estimates: dict[str, list[float]]) -> Series:
    """`{k: [value, low, high]}` as a line with its band."""
    items = sorted((int(k), value) for k, value in estimates.items())
    return Series([(k, v[0]) for k, v in items], [v[1] for _, v in items], [v[2] for _, v in items])
