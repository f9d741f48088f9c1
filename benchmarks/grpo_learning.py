"""What asynchrony and reward shaping do to learning, on the demo's micro tasks, several seeds each.

    python -m benchmarks.grpo_learning [--folder FOLDER] [--seeds 3] [--steps 10] [--json] [--svg FILE]

Every seed has one SFT model, and all its arms begin with it:

- sync, stale2: grpo.max_staleness 0 and 2, SWE-Master's reward table
- deepswe, outcome: the other reward tables, synchronous, to compare with sync

The demo's budget of 8 turns cut 14 % of the episodes of the first step and 24 % of all (sync).

Each arm trains and is then evaluated on the same held-out tasks, several episodes each. Runs are ordinary run folders below
FOLDER: what is finished there is kept, what was interrupted goes on. Reported: resolved share during training (mean over seeds,
and the lowest and highest seed as band), pass@1 on held-out tasks with a 95 % bootstrap interval over tasks per seed and over all
seeds, and paired differences. Truncated shares are reported, not assumed.
"""

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import orjson

from cluster.metric_sinks import read_metrics
from cluster.run_folder import RunFolder
from cluster.svg_charts import Series, line_chart, standalone_svg
from verifier.estimates import bootstrap_interval, paired_difference

BASE = """
name: learning
tasks:
  micro: {{num_train: 400, num_heldout: 64, explicit_share: 0.3}}
  play: [micro]
rollout:
  num_samples: 4
  policies: [hasty, sloppy]
  concurrency: 64
  episode: {{max_turns: 8, max_tokens: 512, max_tokens_per_turn: 32}}
sandbox: {{num_sandboxes: 64}}
sft:
  num_steps: 100
  batch_size: 32
  context_loss_weight: 0.1
  optimizer: {{learning_rate: 2e-3, warmup_steps: 20, schedule: cosine}}
grpo:
  groups_per_step: 12
  group_size: 8
  max_response_tokens: 256
  optimizer: {{learning_rate: 1.5e-4, warmup_steps: 0, schedule: constant}}
tts: {{num_candidates: 4}}
runs_dir: {runs_dir}
"""

PARTS = ("rollout_wait", "train", "sync")


@dataclass(frozen=True)
class Arm:
    """One way to train, as overrides of the base configuration."""

    name: str
    overrides: tuple[str, ...]


ARMS = (
    Arm("sync", ("grpo.max_staleness=0", "verifier.reward=swe_master")),
    Arm("stale2", ("grpo.max_staleness=2",)),
    Arm("deepswe", ("grpo.max_staleness=0", "verifier.reward=deepswe")),
    Arm("outcome", ("grpo.max_staleness=0", "verifier.reward=outcome")),
)


def stage(verb: str, root: Path, overrides: tuple[str, ...] = ()) -> None:
    """Run or continue a stage in a run folder, unless it is finished there."""
    name = "eval-grpo" if verb == "eval" else verb
    if name in RunFolder.open(root).stage_records():
        return
    sys.stderr.write(f"{root.name}: {verb}\n")
    command = [sys.executable, "-m", "cluster.cli", verb, "--resume", str(root), *overrides]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def linked_copy(source: Path, target: Path, stages: tuple[str, ...], folders: tuple[str, ...]) -> None:
    """A run folder that begins where `source` stands after `stages`: its `folders` are shared by links."""
    if (target / "stages.json").exists():
        return
    target.mkdir(parents=True, exist_ok=True)
    for name in ("trajectories", "checkpoints", "hf", "logs"):
        (target / name).mkdir(exist_ok=True)
    for name in folders:
        place = target / name
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        if not place.is_symlink():
            place.symlink_to(source / name)
    for name in ("config.yaml", "versions.json", "curated.json"):
        if (source / name).exists():
            (target / name).write_bytes((source / name).read_bytes())
    records = RunFolder.open(source).stage_records()
    (target / "stages.json").write_bytes(orjson.dumps({name: records[name] for name in stages}))


def shared_rollouts(folder: Path) -> Path:
    """The run folder with tasks and teachers' episodes that all seeds learn from."""
    found = sorted(folder.glob("learning-*"))
    if not found:
        (folder / "base.yaml").write_text(BASE.format(runs_dir=folder))
        subprocess.run(
            [sys.executable, "-m", "cluster.cli", "tasks", str(folder / "base.yaml")], check=True, stdout=subprocess.DEVNULL
        )
        found = sorted(folder.glob("learning-*"))
    for verb in ("rollout", "curate"):
        stage(verb, found[0])
    return found[0]


def run_seed(folder: Path, rollouts: Path, seed: int, steps: int, arms: list[Arm]) -> None:
    """The SFT model of a seed, then its arms."""
    sft, dice = folder / f"sft-{seed}", f"seed={seed}"
    linked_copy(rollouts, sft, ("tasks", "rollout", "curate"), ("tasks", "images", "trajectories"))
    stage("sft", sft, (dice,))
    for arm in arms:
        root = folder / f"{arm.name}-{seed}"
        linked_copy(sft, root, ("tasks", "rollout", "curate", "sft"), ("tasks", "images", "hf/sft"))
        for verb in ("grpo", "eval"):
            stage(verb, root, (dice, f"grpo.num_steps={steps}", *arm.overrides))


def arm_figures(folder: Path, arm: Arm, seeds: int) -> dict[str, Any]:
    """Curves and held-out results of an arm over the seeds."""
    rows = [read_metrics(folder / f"{arm.name}-{seed}", "grpo") for seed in range(seeds)]
    evaluations = [RunFolder.open(folder / f"{arm.name}-{seed}").stage_records()["eval-grpo"] for seed in range(seeds)]
    curve = np.array([[row["rollout/resolved"] for row in run] for run in rows])
    truncated = np.array([[row.get("stop/max_turns", 0.0) for row in run] for run in rows])
    per_task = [list(record["per_task"].values()) for record in evaluations]
    everything = bootstrap_interval([value for values in per_task for value in values], 2000, 0)
    intervals = [bootstrap_interval(values, 2000, 0) for values in per_task]
    return {
        "resolved_in_training": curve.mean(axis=0).round(4).tolist(),
        "resolved_lowest": curve.min(axis=0).round(4).tolist(),
        "resolved_highest": curve.max(axis=0).round(4).tolist(),
        "truncated_in_training": truncated.mean(axis=0).round(4).tolist(),
        "pass_at_1": [everything.mean, everything.low, everything.high],
        "pass_at_1_by_seed": [[one.mean, one.low, one.high] for one in intervals],
        "staleness": fmean(row["rollout/staleness"] for run in rows for row in run),
        "seconds_per_step": fmean(
            row["time/rollout_wait_s"] + row["time/train_s"] + row["time/sync_s"] for r in rows for row in r
        ),
        "per_task": {f"{seed}/{name}": value for seed, e in enumerate(evaluations) for name, value in e["per_task"].items()},
    }


def difference(first: dict[str, Any], second: dict[str, Any]) -> list[float]:
    """Paired difference of pass@1 over the tasks and seeds that both arms played: [second - first, low, high]."""
    both = sorted(first["per_task"].keys() & second["per_task"].keys())
    before, after = [first["per_task"][name] for name in both], [second["per_task"][name] for name in both]
    interval = paired_difference(before, after, 2000, 0)
    return [interval.mean, interval.low, interval.high]


def chart(figures: dict[str, dict[str, Any]], names: tuple[str, ...], title: str) -> str:
    series = {}
    for name in names:
        arm = figures[name]
        points = [(float(step), value) for step, value in enumerate(arm["resolved_in_training"], start=1)]
        series[name] = Series(points, arm["resolved_lowest"], arm["resolved_highest"])
    return standalone_svg(line_chart(title, series, "step", "resolved in training", (0.0, 1.0)))


def write_pictures(svg: Path, figures: dict[str, dict[str, Any]], seeds: int) -> None:
    """The training curves of the arms that were played, one file each for staleness and shaping, named after `svg`."""
    for kind, names in (("staleness", ("sync", "stale2")), ("shaping", ("sync", "deepswe", "outcome"))):
        if set(names) <= figures.keys():
            picture = chart(figures, names, f"GRPO on micro tasks, {seeds} seeds: {kind}")
            svg.with_name(f"{svg.stem}_{kind}.svg").write_text(picture, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--arms", default=",".join(arm.name for arm in ARMS))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--svg", type=Path, help="two pictures: FILE_staleness.svg and FILE_shaping.svg without its ending")
    options = parser.parse_args()
    folder = (options.folder or Path(tempfile.mkdtemp(prefix="grpo-learning-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    arms = [arm for arm in ARMS if arm.name in options.arms.split(",")]
    rollouts = shared_rollouts(folder)
    for seed in range(options.seeds):
        run_seed(folder, rollouts, seed, options.steps, arms)
    figures = {arm.name: arm_figures(folder, arm, options.seeds) for arm in arms}
    pairs = [("sync", "stale2"), ("deepswe", "sync"), ("outcome", "sync")]
    differences = {f"{b} - {a}": difference(figures[a], figures[b]) for a, b in pairs if a in figures and b in figures}
    if options.svg:
        write_pictures(options.svg, figures, options.seeds)
    shown = {name: {key: value for key, value in arm.items() if key != "per_task"} for name, arm in figures.items()}
    result = {"folder": str(folder), "arms": shown, "pass_at_1_differences": differences}
    sys.stdout.write(orjson.dumps(result, option=0 if options.json else orjson.OPT_INDENT_2).decode() + "\n")


if __name__ == "__main__":
    main()
