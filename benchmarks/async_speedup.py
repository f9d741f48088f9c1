"""Asynchronous against synchronous GRPO on one long-tailed workload: trajectories per hour, and where the time goes.

    python -m benchmarks.async_speedup [--json] [--svg FILE] [--steps 24] [--seeds 3]

The loop is the real one (trainers.grpo_loop); rollouts and learner are scripted delays on a simulated clock, so these are
properties of the scheduling and not measurements of an engine. Both modes have the same engine and the same learner beside it
(split placement). What is scripted, after SWE-Master's published numbers (105 turns on average, a fifth of the early episodes at
the limit of 150 turns, 265 tokens per turn, about 4 s per turn, 3 to 76 s of grading, 32 groups of 4):

- turns: log-normal, median 100, sigma 0.45, cut at 150; tokens per turn: log-normal, mean 265, sigma 0.5
- tool calls: log-normal, median 1.2 s, sigma 1.0, times a factor per task (sigma 0.6): some repositories have slow tests
- grading: 3 s to 76 s, log-uniform
- engine: 128 slots; a sequence alone gets 100 tokens/s, at n running ones 100 / (1 + n / 64): a batch is slower, not free
- learner: 200 s for a step of 128 trajectories, 10 s to hand the weights over
"""

import argparse
import asyncio
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import numpy as np
import orjson

from benchmarks.simulated_clock import run_simulated
from cluster.svg_charts import bar_chart, standalone_svg
from configs.grpo_config import GRPOConfig
from envpool.patch import Patch
from envpool.trajectory import StopReason, Trajectory, Turn
from trainers.group_key import GroupKey
from trainers.group_ledger import NoLedger
from trainers.grpo_loop import run_grpo
from trainers.loss_spec import LossSpec
from trainers.train_sample import TrainSample
from verifier.reward import Group, Reward, ScoredTrajectory

STALENESS = (0, 1, 2, 4)
GROUPS_PER_STEP, GROUP_SIZE = 32, 4
MAX_TURNS = 150
SLOTS, TOKENS_PER_S, HALF_SPEED_AT = 128, 100.0, 64
TRAIN_S, SYNC_S = 200.0, 10.0
WARM_STEPS = 4
"""Steps before the clock starts: the first ones fill the window."""


@dataclass
class ScriptedEngine:
    """A batch of at most SLOTS sequences; keeps the books on its own use."""

    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(SLOTS))
    running: int = 0
    changed_at: float = 0.0
    busy_s: float = 0.0
    slot_s: float = 0.0

    async def generate(self, num_tokens: float) -> None:
        async with self.slots:
            self._change(+1)
            await asyncio.sleep(num_tokens / TOKENS_PER_S * (1 + self.running / HALF_SPEED_AT))
            self._change(-1)

    def _change(self, by: int) -> None:
        now = asyncio.get_running_loop().time()
        self.busy_s += (now - self.changed_at) * (self.running > 0)
        self.slot_s += (now - self.changed_at) * self.running
        self.changed_at, self.running = now, self.running + by

    def start_counting(self) -> None:
        self._change(0)
        self.busy_s = self.slot_s = 0.0


@dataclass
class ScriptedRun:
    """Rollouts, learner and plan of one simulated run. The same seed plays the same episodes whatever the staleness."""

    seed: int
    engine: ScriptedEngine = field(default_factory=ScriptedEngine)
    version: int = 0
    episode_s: list[float] = field(default_factory=list)

    async def play(self, key: GroupKey, version: int, resumed: bool) -> Group:
        slowness = random.Random(f"{self.seed}/{key}").lognormvariate(0.0, 0.6)
        members = await asyncio.gather(*(self._episode(key, index, slowness) for index in range(GROUP_SIZE)))
        return Group(key.task_id, tuple(members), ())

    async def _episode(self, key: GroupKey, index: int, slowness: float) -> ScoredTrajectory:
        dice, clock = random.Random(f"{self.seed}/{key}/{index}"), asyncio.get_running_loop()
        began, versions = clock.time(), list[int]()
        num_turns = min(int(dice.lognormvariate(np.log(100), 0.45)) + 1, MAX_TURNS)
        for _ in range(num_turns):
            versions.append(self.version)
            await self.engine.generate(265 * dice.lognormvariate(-0.125, 0.5))
            await asyncio.sleep(1.2 * slowness * dice.lognormvariate(0.0, 1.0))
        await asyncio.sleep(3.0 * (76.0 / 3.0) ** dice.random())
        self.episode_s.append(clock.time() - began)
        ids = np.ones(num_turns, np.int32)
        turn = Turn(ids[:1], ids, np.full(num_turns, -0.1, np.float32), np.array(versions, np.int32), "", "", "", 0.0, 0.0)
        trajectory = Trajectory(key.task_id, index, "scripted", "", (turn,), Patch(""), StopReason.SUBMITTED, self.episode_s[-1])
        solved = dice.random() < 0.45
        return ScoredTrajectory(trajectory, Reward(float(solved), {}, True), solved, "")

    async def cut(self, key: GroupKey) -> None:
        raise RuntimeError(f"{key} would be cut: the deadline is too short for this workload")

    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
        await asyncio.sleep(TRAIN_S * len(samples) / (GROUPS_PER_STEP * GROUP_SIZE))
        return {}

    async def sync_weights(self, version: int) -> float:
        await asyncio.sleep(SYNC_S)
        self.version = version
        return SYNC_S

    async def save(self, step: int) -> None:
        """Free."""

    def tasks(self, step: int) -> list[str]:
        return [f"task-{step}-{index}" for index in range(GROUPS_PER_STEP)]

    def spares(self, step: int, round_: int, used: set[str], count: int) -> list[str]:
        return []

    def shape(self, step: int, groups: list[Group]) -> list[Group]:
        return groups


def simulate(max_staleness: int, num_steps: int, seed: int) -> dict[str, float]:
    """Figures of one run between step WARM_STEPS and the last but `max_staleness`, where the window runs dry."""
    config = GRPOConfig(
        num_steps=num_steps, groups_per_step=GROUPS_PER_STEP, max_staleness=max_staleness, step_timeout_s=36_000.0
    )
    last = num_steps - max_staleness
    rows: list[dict[str, float]] = []
    marks: list[tuple[float, float, float]] = []

    async def go() -> None:
        run = ScriptedRun(seed)

        def on_step(step: int, metrics: dict[str, float], groups: list[Group]) -> None:
            if step == WARM_STEPS:
                run.engine.start_counting()
            if step in (WARM_STEPS, last):
                run.engine._change(0)
                marks.append((asyncio.get_running_loop().time(), run.engine.busy_s, run.engine.slot_s))
            if WARM_STEPS < step <= last:
                rows.append({**metrics, "trajectories": float(sum(len(group.members) for group in groups))})

        await run_grpo(config, run, run, run, NoLedger(), 0, on_step)
        figures["episode_s"] = fmean(run.episode_s)
        figures["longest_episode_s"] = max(run.episode_s)

    figures: dict[str, float] = {}
    run_simulated(go())
    seconds = marks[1][0] - marks[0][0]
    return figures | {
        "trajectories_per_hour": sum(row["trajectories"] for row in rows) / seconds * 3600,
        "engine_busy": (marks[1][1] - marks[0][1]) / seconds,
        "sequences_running": (marks[1][2] - marks[0][2]) / seconds,
        "step_s": seconds / len(rows),
        "rollout_wait_s": fmean(row["time/rollout_wait_s"] for row in rows),
        "train_s": fmean(row["time/train_s"] for row in rows),
        "sync_s": fmean(row["time/sync_s"] for row in rows),
        "staleness": fmean(row["rollout/staleness"] for row in rows),
        "staleness_max": max(row["rollout/staleness_max"] for row in rows),
        "rejected": rows[-1]["window/rejected"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    results = []
    for max_staleness in STALENESS:
        runs = [simulate(max_staleness, options.steps, seed) for seed in range(options.seeds)]
        results.append({"max_staleness": max_staleness} | {name: fmean(run[name] for run in runs) for name in runs[0]})
    for row in results:
        row["speedup"] = row["trajectories_per_hour"] / results[0]["trajectories_per_hour"]
    if options.svg:
        bars = [(f"staleness {row['max_staleness']:g}", row["trajectories_per_hour"]) for row in results]
        title = "Scripted delays on a simulated clock"
        options.svg.write_text(standalone_svg(bar_chart(title, bars, "", "trajectories/h")), encoding="utf-8")
    if options.json:
        sys.stdout.write(orjson.dumps(results, option=orjson.OPT_INDENT_2).decode() + "\n")
        return
    for row in results:
        sys.stdout.write("  ".join(f"{name} {value:.3g}" for name, value in row.items()) + "\n")


if __name__ == "__main__":
    main()
