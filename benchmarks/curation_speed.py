"""Trajectories per second of curation, and its peak memory, on generated rollouts.

    python -m benchmarks.curation_speed              # 20,000 trajectories of 100 turns, two workers generate
    python -m benchmarks.curation_speed --json --trajectories 2000 --export

The data have the shape of a real rollout folder: shards written by `GroupStore`, 8 episodes a task, token arrays, texts and
scores. Token arrays are shorter than real ones (--tokens-per-turn). Each measurement runs in a process of its own, so that
its peak memory is its own; the median of three is reported. `curate` is the stage without the terminal (both passes over the
columns, filters, cap, split, files); `curate (older files)` does the same on shards without the derived columns, on a tenth
of them; `export` writes the chosen ones as Parquet of messages and tools.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.group_store import GROUPS_PER_SHARD, GroupStore, complete_shards, read_outcomes
from cluster.sft_export import curated_samples
from cluster.stages.curate_stage import curate_rollout, curation_rules, joined_difficulty, write_results
from configs.curate_config import CurateConfig
from configs.run_config import RunConfig
from envpool.chat.chat_sample_file import write_samples
from envpool.curation.difficulty import difficulty_of_outcomes
from envpool.patch import Patch
from envpool.trajectories.trajectory_store import DERIVED
from envpool.trajectory import StopReason, Trajectory, Turn
from verifier.reward import Group, Reward, ScoredTrajectory

GROUP_SIZE = 8
VOCAB = 151_000
CALL = "<function=execute_bash>\n<parameter=command>sed -n {a},{b}p /testbed/src/module_{c}.py</parameter>\n</function>"
SUBMIT = "<function=submit>\n</function>"
MAX_TOKENS = 10**9


def trajectory(rng: np.random.Generator, task: int, sample: int, turns: int, tokens: int) -> Trajectory:
    """One episode: `turns` turns of `tokens` tokens, two thirds of them shown and a third sampled; 1 in 20 misses a call."""
    shown, sampled = tokens - tokens // 3, tokens // 3
    ids = rng.integers(0, VOCAB, (turns, shown + sampled), dtype=np.int32)
    logprobs = -rng.random((turns, sampled), dtype=np.float32)
    versions = np.zeros(sampled, np.int32)
    missed = int(rng.integers(turns)) if rng.random() < 0.05 else -1
    rows = []
    for turn in range(turns):
        action = SUBMIT if turn == turns - 1 else CALL.format(a=turn, b=turn + 40, c=int(ids[turn, 0]))
        text = f"I read the code around line {turn} to see what it returns.\n\n{action}"
        seen = f"{ids[turn, :shown].tolist()}"[: 4 * shown]
        act = "" if turn == missed else action
        fields = (ids[turn, :shown], ids[turn, shown:], logprobs[turn], versions)
        rows.append(Turn(*fields, "no call" if turn == missed else text, act, seen, 2.0, 0.3))
    stop = StopReason.MAX_TURNS if rng.random() < 0.1 else StopReason.SUBMITTED
    return Trajectory(f"task-{task:06d}", sample, "teacher", "Fix the issue.", tuple(rows), Patch("diff\n"), stop, 250.0)


def write_part(folder: Path, first: int, num_tasks: int, turns: int, tokens: int) -> None:
    """Tasks first, first + 1, ... as shards of `folder`; solved with a share of their own, a third of them always or never."""
    rng = np.random.default_rng(first)
    with GroupStore(folder) as store:
        for task in range(first, first + num_tasks):
            share = (0.0, 1.0, rng.random())[rng.integers(3)]
            members = []
            for sample in range(GROUP_SIZE):
                resolved = bool(rng.random() < share)
                one = trajectory(rng, task, sample, turns, tokens)
                reward = Reward(float(resolved), {"outcome": float(resolved)}, True)
                members.append(ScoredTrajectory(one, reward, resolved, "log"))
            store.add(Group(f"task-{task:06d}", tuple(members), ()))


def generate(folder: Path, trajectories: int, turns: int, tokens: int, workers: int) -> float:
    """Write the rollout folder with several processes; returns seconds."""
    began = time.perf_counter()
    tasks = trajectories // GROUP_SIZE
    step = -(-tasks // workers // GROUPS_PER_SHARD) * GROUPS_PER_SHARD
    parts = [(folder / f"part_{first}", first, min(step, tasks - first), turns, tokens) for first in range(0, tasks, step)]
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers) as pool:
        pool.starmap(write_part, parts)
    number = 0
    for part, *_ in parts:
        for lost, shard in complete_shards(part):
            shard.rename(folder / f"shard_{number:05d}.parquet")
            lost.rename(folder / f"lost_{number:05d}.jsonl")
            number += 1
        part.rmdir()
    return time.perf_counter() - began


def curate_folder(root: Path) -> int:
    """The stage's work on root/trajectories/rollout; returns how many trajectories it kept."""
    rollout = root / "trajectories" / "rollout"
    config = CurateConfig(max_tokens=MAX_TOKENS, max_per_task=4, heldout_share=0.05)
    played = difficulty_of_outcomes(read_outcomes(rollout))
    difficulty = joined_difficulty(played, played, {})
    result = curate_rollout(rollout, curation_rules(config, 0), difficulty, {})
    write_results(root, result, difficulty, config)
    return len(result.train)


def export_folder(root: Path) -> int:
    """The chosen trajectories of root as Parquet of messages and tools."""
    chosen = {(name, index) for name, index in json.loads((root / "curated.json").read_bytes())}
    return write_samples(root / "sft.parquet", curated_samples(root, chosen, RunConfig()))


def without_derived(source: Path, target: Path, num_shards: int) -> None:
    """Copies of some shards without the columns that older versions did not write."""
    target.mkdir(parents=True)
    for lost, shard in complete_shards(source)[:num_shards]:
        pq.write_table(pq.read_table(shard).drop_columns(list(DERIVED)), target / shard.name, compression="zstd")
        shutil.copy(lost, target / lost.name)


def peak_mib() -> float:
    """Peak resident memory of this process since it was started. `getrusage` would also count its parent's before exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def _measured(work: Callable[[Path], int], root: Path, answers: Any) -> None:
    pa.set_cpu_count(2)
    began, began_cpu = time.perf_counter(), time.process_time()
    before = peak_mib()
    kept = work(root)
    seconds, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    answers.put((seconds, cpu, before, peak_mib(), kept))


def measure(work: Callable[[Path], int], root: Path, trajectories: int, repeats: int = 3) -> dict[str, float]:
    """Medians over fresh processes: seconds, CPU seconds, trajectories per second, peak MiB (of it at start), kept."""
    context = multiprocessing.get_context("spawn")
    runs = []
    for _ in range(repeats):
        answers = context.Queue()
        process = context.Process(target=_measured, args=(work, root, answers))
        process.start()
        runs.append(answers.get(timeout=600))
        process.join(60)
    seconds, cpu, before, peak, kept = (statistics.median(column) for column in zip(*runs, strict=True))
    return {
        "seconds": round(seconds, 2),
        "cpu_s": round(cpu, 2),
        "trajectories_per_s": round(trajectories / seconds),
        "peak_mib": round(peak),
        "peak_before_mib": round(before),
        "kept": int(kept),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trajectories", type=int, default=20_000)
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--tokens-per-turn", type=int, default=96)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--export", action="store_true", help="also measure the export (once)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, default=None, help="where the data go for a while (default: a temporary folder)")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="curation-speed-", dir=arguments.folder))
    try:
        rollout = root / "trajectories" / "rollout"
        rollout.mkdir(parents=True)
        seconds = generate(rollout, arguments.trajectories, arguments.turns, arguments.tokens_per_turn, arguments.workers)
        size = sum(path.stat().st_size for path in rollout.iterdir())
        shards = len(complete_shards(rollout))
        results = {"curate": measure(curate_folder, root, arguments.trajectories)}
        older = max(1, shards // 10)
        without_derived(rollout, root / "older" / "trajectories" / "rollout", older)
        num_older = min(arguments.trajectories, older * GROUPS_PER_SHARD * GROUP_SIZE)
        results["curate (older files)"] = measure(curate_folder, root / "older", num_older)
        if arguments.export:
            kept = int(results["curate"]["kept"])
            results["export"] = measure(export_folder, root, kept, repeats=1)
        record = {
            "trajectories": arguments.trajectories,
            "turns": arguments.turns,
            "tokens_per_turn": arguments.tokens_per_turn,
            "shards": shards,
            "mib_on_disk": round(size / 2**20),
            "generated_in_s": round(seconds, 1),
            "load_average": round(os.getloadavg()[0], 2),
            "results": results,
        }
        print(json.dumps(record) if arguments.json else as_text(record))
    finally:
        shutil.rmtree(root)


def as_text(record: dict[str, Any]) -> str:
    lines = [f"{key:20s} {value}" for key, value in record.items() if key != "results"]
    for name, row in record["results"].items():
        lines.append(f"{name:22s} " + "  ".join(f"{key} {value:,}" for key, value in row.items()))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
