"""kill -9 of one process of a real training run at a random moment, again and again, and what is left of the run afterwards.

    python -m benchmarks.kill_campaign [--trials 30] [--victims engine,rollout_worker,learner,sandbox,driver] [--json]
        [--max-staleness 0] [--base RUN] [--keep FOLDER] [--seed 0]

A real run (vLLM engine, DeepSpeed learner, sandboxes, Ray) of GRPO on micro tasks. Victims die at random moments while it plays
and trains; several deaths fall on one run, one after the other, each after the run has recovered from the last. A driver's death
is followed by `--resume`. When a run ends, cluster.run_audit checks its folder, strictly: no group rejected, no episode lost, at
most one turn of an episode sampled again per death. `--base` is a run folder with finished `tasks` and `sft` stages; without it
one is made first (a few minutes). Exit code 1 when anything does not hold.

Synchronous runs (`--max-staleness 0`) must also end with the weights of an undisturbed run, bit by bit. The engine decodes one
request at a time there: which requests share a batch depends on the moment and changes the last bits of log-probs.
"""

import argparse
import hashlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from benchmarks.killed_run import VICTIMS, KilledRun, note
from cluster.run_audit import Audit, audit_run
from configs.stage_loading import load_config

RECOVERY_S = 400.0
"""The run must have written something again this long after a death."""
RUN_S = 3000.0
LONGEST_PAUSE_S = 8.0
"""A victim dies up to this long after the run was seen at work."""
STEPS = 8
OVERRIDES = [f"grpo.num_steps={STEPS}", "grpo.checkpoint_every=3", "grpo.groups_per_step=2", "grpo.group_size=4"]
BASE = """
name: kill-base
tasks:
  micro: {num_train: 96, num_heldout: 8, explicit_share: 0.5}
  play: [micro]
rollout:
  num_samples: 2
  policies: [careful, hasty]
  concurrency: 32
  episode: {max_turns: 6, max_tokens: 512, max_tokens_per_turn: 32}
sandbox: {num_sandboxes: 16}
sft:
  num_steps: 40
  batch_size: 16
  context_loss_weight: 0.1
  optimizer: {learning_rate: 2e-3, warmup_steps: 5, schedule: cosine}
grpo:
  max_response_tokens: 256
  optimizer: {learning_rate: 1.5e-4, warmup_steps: 0, schedule: constant}
"""


@dataclass
class Findings:
    deaths: Counter[str] = field(default_factory=Counter)
    """Deaths after which the run went on and was whole at its end."""
    recovery_s: dict[str, list[float]] = field(default_factory=dict)
    runs: int = 0
    leftovers: int = 0
    audits: Counter[str] = field(default_factory=Counter)
    bit_equal: int = 0
    """Runs that ended with the weights of the undisturbed one."""
    problems: list[str] = field(default_factory=list)


def weights_of(root: Path) -> str:
    """Checksum of the model that GRPO exported. Raises FileNotFoundError without one."""
    files = sorted((root / "hf" / "grpo").glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{root} has exported no model")
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def undisturbed_weights(base: Path, work: Path, overrides: list[str]) -> str:
    """What the same run ends with when nothing dies."""
    findings = Findings()
    run = copied_run(base, work / "undisturbed", overrides)
    try:
        _one_run(run, [], findings, random.Random(0), 0.0)
    finally:
        run.end()
    if findings.problems:
        raise RuntimeError(findings.problems[0])
    return weights_of(run.root)


def copied_run(base: Path, root: Path, overrides: list[str]) -> KilledRun:
    shutil.copytree(base, root, ignore=shutil.ignore_patterns("checkpoints", "journal", "trajectories"))
    return KilledRun(root, overrides)


def campaign(
    todo: list[str], base: Path, work: Path, overrides: list[str], seed: int, pause_s: float = LONGEST_PAUSE_S
) -> Findings:
    """One death after the other, the last of `todo` first, in as many runs as that takes."""
    findings, dice, todo = Findings(), random.Random(seed), list(todo)
    synchronous = load_config(base / "config.yaml", overrides).grpo.max_staleness == 0
    if synchronous:
        overrides = [*overrides, "engine.max_num_seqs=1"]
        undisturbed = undisturbed_weights(base, work, overrides)
    while todo:
        run = copied_run(base, work / f"run-{findings.runs}", overrides)
        root = run.root
        before = len(findings.problems)
        try:
            died = _one_run(run, todo, findings, dice, pause_s)
        finally:
            run.end()
        findings.runs += 1
        findings.leftovers += run.leftovers
        if len(findings.problems) > before:
            break
        audit: Audit = audit_run(root, load_config(root / "config.yaml", overrides), len(died), strict=True)
        findings.problems += [f"{root.name} ({', '.join(died)}): {problem}" for problem in audit.problems]
        findings.audits += audit.counts
        findings.deaths += Counter(died)
        if synchronous and weights_of(root) == undisturbed:
            findings.bit_equal += 1
        elif synchronous:
            findings.problems.append(f"{root.name} ({', '.join(died)}): other weights than the undisturbed run")
        note(
            f"{root.name}: {len(died)} deaths survived ({', '.join(died)}); {dict(audit.counts)}; {len(audit.problems)} problems"
        )
    return findings


def _one_run(run: KilledRun, todo: list[str], findings: Findings, dice: random.Random, pause_s: float) -> list[str]:
    """Play one run to its end; victims are taken off `todo`. Returns those that died in it."""
    died: list[str] = []
    run.start()
    deadline = time.monotonic() + RUN_S
    while run.exit_code is None and time.monotonic() < deadline:
        before = run.written()
        if not run.wait_for_progress(before, RECOVERY_S):
            findings.problems.append(
                f"{run.root.name}: no progress within {RECOVERY_S:g} s after {died[-1:]} (exit {run.exit_code})"
            )
            return died
        if not todo or run.exit_code is not None:
            continue
        time.sleep(dice.uniform(0.0, pause_s))
        before, victim, at = run.written(), todo[-1], time.monotonic()
        if run.exit_code is not None or not run.kill(victim, dice):
            time.sleep(0.2)
            continue
        todo.pop()
        died.append(victim)
        if victim == "driver":
            before = run.written()
            run.start()
        if run.wait_for_progress(before, RECOVERY_S):
            findings.recovery_s.setdefault(victim, []).append(round(time.monotonic() - at, 1))
    if run.exit_code is None:
        findings.problems.append(f"{run.root.name}: not finished after {RUN_S:g} s")
    elif run.exit_code != 0:
        findings.problems.append(f"{run.root.name}: ended with exit code {run.exit_code} after {', '.join(died)}; see {run.root}")
    return died


def make_base(work: Path) -> Path:
    """A run folder with tasks and a model that calls tools."""
    (work / "base.yaml").write_text(BASE + f"runs_dir: {work}\n")
    for verb in ("tasks", "rollout", "curate", "sft"):
        found = sorted(work.glob("kill-base-*"))
        where = ["--resume", str(found[-1])] if found else [str(work / "base.yaml")]
        note(f"base: {verb}")
        subprocess.run([sys.executable, "-m", "cluster.cli", verb, *where], check=True, stdout=subprocess.DEVNULL)
    return sorted(work.glob("kill-base-*"))[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--victims", default=",".join(VICTIMS))
    parser.add_argument("--max-staleness", type=int, default=0)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--keep", type=Path, help="folder for the run folders; removed afterwards when not given")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    work = (options.keep or Path(tempfile.mkdtemp(prefix="kill-campaign-"))).absolute()
    work.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    try:
        base = options.base or make_base(work)
        overrides = [*OVERRIDES, f"grpo.max_staleness={options.max_staleness}"]
        todo = [victim for victim in options.victims.split(",") for _ in range(options.trials)]
        random.Random(options.seed).shuffle(todo)
        findings = campaign(todo, base, work, overrides, options.seed)
    finally:
        if options.keep is None:
            shutil.rmtree(work, ignore_errors=True)
    result = {
        "deaths_survived": findings.deaths,
        "runs": findings.runs,
        "processes_left_by_dead_drivers": findings.leftovers,
        "runs_bit_equal": findings.bit_equal,
        "audits": findings.audits,
        "median_recovery_s": {name: sorted(times)[len(times) // 2] for name, times in findings.recovery_s.items()},
        "problems": findings.problems,
        "seconds": round(time.monotonic() - began),
    }
    if options.json:
        sys.stdout.write(orjson.dumps(result).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{name}: {value}\n" for name, value in result.items()))
    sys.exit(bool(findings.problems))


if __name__ == "__main__":
    main()
