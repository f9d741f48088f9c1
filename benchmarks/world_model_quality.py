"""SWE-World on the demo's tasks: the scorer's quality, TTS@K, simulated executions, and GRPO without containers.

    python -m benchmarks.world_model_quality --seeds 0 1 2 --json --svg docs/images     # about an hour on two quiet cores

For each seed a small demo run: tasks, teachers' rollouts, SFT, GRPO with real tests, evaluations (K candidates each), a scorer
trained on all rollouts of training tasks, test-time scaling. For the first seed arms go on from there: a scorer with the
curator's context, a model of both roles, and GRPO with that model's simulated executions and rewards from the same SFT policy
(evaluated, as all are, by really running the hidden tests). Every stage is kept in --runs FOLDER; started again, it goes on where
it was. Each arm is a process of its own.
"""

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.world_model_charts import write_charts
from cluster.progress_view import ProgressView
from cluster.run_folder import RunFolder, write_atomically
from cluster.stage_running import log_to, run_in_folder
from configs.stage_loading import config_as_yaml, load_config

DEMO = Path("configs/yaml/demo.yaml")
BASE = ("tasks.micro.num_train=800", "tasks.micro.num_heldout=96", "grpo.num_steps=12")
"""With half the tasks the world model of both roles learns them by heart and copies the names of new ones badly."""
BOTH_ROLES = ("world_model.roles=[reward,transition]", "world_model.num_steps=300")
SIMULATED = ("sandbox.backend=simulated", "verifier.grader=hybrid", "grpo.step_timeout_s=1800")
FIXED_SHARE = ("verifier.audit_threshold=1e9",)
"""No alarm: a tenth of the rewards comes from real tests, whatever they find."""
ARM_TIMEOUT_S = 3_600.0
VERBS = ["tasks", "rollout", "curate", "sft", "eval-sft", "grpo", "eval-grpo", "world-model", "tts"]
FOLDERS = {
    "tasks": ("tasks", "images"),
    "rollout": ("trajectories/rollout",),
    "sft": ("hf/sft",),
    "eval-sft": ("trajectories/eval-sft",),
    "grpo": ("hf/grpo", "trajectories/grpo"),
    "eval-grpo": ("trajectories/eval-grpo",),
    "world-model": ("hf/world-model",),
}
"""What a stage leaves that later ones read."""


def run_arm(root: Path, verbs: list[str], settings: list[str]) -> None:
    """Run stages in a folder that is there or is made now; finished ones are kept. Raises SystemExit when one fails."""
    started = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "benchmarks.world_model_quality",
        "--arm",
        str(root),
        "--verbs",
        *verbs,
        "--settings",
        *settings,
    ]
    with (root.parent / f"{root.name}.log").open("ab") as log:
        done = subprocess.run(command, stdout=log, stderr=log, timeout=ARM_TIMEOUT_S, check=False)
    print(f"{root.name} {' '.join(verbs)}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    if done.returncode != 0:
        sys.exit(f"error: {root.name} {' '.join(verbs)} ended with {done.returncode}; see {root.parent / root.name}.log")


def arm_process(root: Path, verbs: list[str], settings: list[str]) -> None:
    """The other side of `run_arm`."""
    if not (root / "config.yaml").is_file():
        config = load_config(DEMO, [*settings, f"name={root.name}", f"runs_dir={root.parent}"])
        RunFolder.create(config).root.rename(root)
    folder = RunFolder.open(root)
    config = load_config(root / "config.yaml", settings)
    log_to(folder)
    asyncio.run(run_in_folder(tuple(verbs), config, folder, ProgressView(), again=False))


def branch(source: Path, target: Path, drop: tuple[str, ...]) -> None:
    """A run folder that goes on from what `source` has; without tts and the stages in `drop`."""
    if (target / "config.yaml").is_file():
        return
    shutil.rmtree(target, ignore_errors=True)
    folder = RunFolder.open(source)
    records = {name: row for name, row in folder.stage_records().items() if name not in ("tts", *drop)}
    for stage in records:
        for name in FOLDERS.get(stage, ()):
            shutil.copytree(source / name, target / name, symlinks=True)
    for name in ("checkpoints", "logs"):
        (target / name).mkdir(exist_ok=True)
    shutil.copy(source / "versions.json", target / "versions.json")
    write_atomically(target / "stages.json", json.dumps(records).encode())
    if (source / "curated.json").is_file():
        shutil.copy(source / "curated.json", target / "curated.json")
    write_atomically(target / "config.yaml", config_as_yaml(load_config(source / "config.yaml", [])).encode())


def measure(runs: Path, seeds: list[int], with_arms: bool) -> dict[str, Any]:
    """Run what is missing and collect the stages' records."""
    runs.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"seeds": {}}
    for seed in seeds:
        root = runs / f"seed-{seed}"
        settings = [f"seed={seed}", f"tts.seed={seed}", f"tasks.seed={seed}", *BASE]
        run_arm(root, VERBS, settings)
        records = RunFolder.open(root).stage_records()
        result["seeds"][str(seed)] = {name: records[name] for name in ("eval-sft", "eval-grpo", "world-model", "tts")}
    if with_arms:
        result["arms"] = arms(runs, runs / f"seed-{seeds[0]}")
    return result


def arms(runs: Path, source: Path) -> dict[str, Any]:
    """Other world models, and GRPO with simulated executions from the same SFT policy as the `source` run's with real ones."""
    found: dict[str, Any] = {}
    curator = ("world_model.context=curator", "world_model.max_prompt_chars=1200")
    for name, settings in (("both-roles", BOTH_ROLES), ("curator", curator)):
        root = runs / f"{source.name}-{name}"
        branch(source, root, drop=("world-model",))
        run_arm(root, ["world-model", "tts"], list(settings))
        records = RunFolder.open(root).stage_records()
        found[name] = {name: records[name] for name in ("world-model", "tts")}
    for name, settings in (("grpo-simulated", ()), ("grpo-fixed-share", FIXED_SHARE)):
        root = runs / f"{source.name}-{name}"
        branch(runs / f"{source.name}-both-roles", root, drop=("grpo", "eval-grpo"))
        run_arm(root, ["grpo"], [*BOTH_ROLES, *SIMULATED, *settings])
        run_arm(root, ["eval-grpo"], [])  # always with real tests
        records = RunFolder.open(root).stage_records()
        found[name] = {"grpo": records["grpo"], "eval": records["eval-grpo"]}
    records = RunFolder.open(source).stage_records()
    found["grpo-real"] = {"grpo": records["grpo"], "eval": records["eval-grpo"]}
    before = records["eval-sft"]["pass_at"]["1"][0]
    gains = {name: arm["eval"]["pass_at"]["1"][0] - before for name, arm in found.items() if "eval" in arm}
    shares = {f"{name} / grpo-real": gain / gains["grpo-real"] for name, gain in gains.items() if gains["grpo-real"]}
    found["gain"] = {**gains, **shares}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path("runs/world-model-quality"), help="folder of the runs")
    parser.add_argument("--no-arms", action="store_true", help="leave out GRPO and the curator's scorer")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--svg", type=Path, help="folder for the charts")
    parser.add_argument("--arm", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--verbs", nargs="*", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--settings", nargs="*", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm is not None:
        arm_process(options.arm.absolute(), options.verbs, options.settings)
        return
    result = measure(options.runs.absolute(), options.seeds, not options.no_arms)
    write_atomically(options.runs / "result.json", json.dumps(result, indent=1).encode())
    if options.svg is not None:
        write_charts(result, options.svg)
    print(json.dumps(result) if options.json else json.dumps(summary(result), indent=1))


def summary(result: dict[str, Any]) -> dict[str, Any]:
    """The numbers that the targets are about."""
    rows = {f"seed {seed}": records["tts"] for seed, records in result["seeds"].items()}
    rows |= {name: arm["tts"] for name, arm in result.get("arms", {}).items() if "tts" in arm}
    table: dict[str, Any] = {}
    for name, tts in rows.items():
        last = max(tts["tts_at"], key=int)
        table[f"{name}, {tts['context']} context"] = {
            "accuracy": tts["scorer"]["calibrated"]["accuracy"],
            "ece": tts["scorer"]["calibrated"]["ece"],
            "ece_raw": tts["scorer"]["raw"]["ece"],
            "closed_share": tts["closed_share"],
            f"pass_1, tts_{last}, pass_{last}": [tts["pass_at"]["1"][0], tts["tts_at"][last][0], tts["pass_at"][last][0]],
            "simulated_runs": tts.get("simulated_runs"),
        }
    return {**table, "arms": result.get("arms", {}).get("gain")}


if __name__ == "__main__":
    main()
