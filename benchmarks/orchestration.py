"""What the orchestration itself costs: 1,000 episodes at once in one rollout worker, and a driver that runs 1,000 steps.

    python -m benchmarks.orchestration [--json] [--episodes 1000] [--steps 1000]

The worker's half is the real RolloutWorker in this process: groups of four with their slots, sandboxes of the pool, episodes,
journal, patches, and grading in a second sandbox each. Policy and sandboxes are scripted: every turn waits a second for its
completion and half a second for its tool, every grading two seconds, as real ones would wait, and costs nothing but scheduling,
parsing, rendering and book-keeping. Ray is not part of it: a group crosses it once. The driver's half is the real loop with its
real ledger, outcome log, shards and metrics on disk, and rollouts that are there at once; memory is this process's resident set.
"""

import argparse
import asyncio
import gc
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from actors.group_request import GroupRequest
from actors.rollout_worker import RolloutWorker
from benchmarks.simulated_clock import run_simulated
from cluster.group_store import write_shard
from cluster.metric_sinks import JSONLSink
from cluster.outcome_log import OutcomeLog
from cluster.window_ledger import WindowLedger
from configs.grpo_config import GRPOConfig
from configs.rollout_config import EpisodeConfig, RolloutConfig
from configs.run_config import RunConfig
from configs.sandbox_config import SandboxConfig
from configs.verifier_config import VerifierConfig
from envpool.action_format import ToolCall, render_action
from envpool.chat.chat_format import ChatFormat
from envpool.oracle import Oracle
from envpool.patch import Patch
from envpool.policy import Completion, GenerateRequest
from envpool.problem import Problem
from envpool.sandbox import ExecResult
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes import SANDBOXES
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox, said
from envpool.task import Task
from envpool.trajectory import StopReason, Trajectory, Turn
from trainers.group_key import GroupKey
from trainers.grpo_loop import run_grpo
from trainers.loss_spec import LossSpec
from trainers.model_paths import resolve_model_path
from trainers.rollout_metrics import rollout_metrics
from trainers.step_plan import StepPlan
from trainers.train_sample import TrainSample
from verifier.reward import Group, Reward, ScoredTrajectory
from verifier.rewards import REWARDS

GENERATE_S, TOOL_S, GRADE_S, TURNS = 1.0, 0.5, 2.0, 20
GROUPS, GROUP_SIZE, TURN_TOKENS = 4, 4, 200


def resident_mib() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


DIFF = """diff --git a/calc.py b/calc.py
--- a/calc.py
+++ b/calc.py
@@ -1,2 +1,2 @@
 def add(a, b):
-    return a - b
+    return a + b  # {number}
"""
TEST = "tests/test_add.py::test_add"


class WaitingSandbox(ScriptedSandbox):
    """Answers every command with the same few lines after TOOL_S, git at once, and the hidden tests after GRADE_S. Its work tree
    is a patch that no other sandbox has, so that every episode is graded by itself."""

    def __init__(self, number: int, workdir: str) -> None:
        super().__init__({f"{workdir}/calc.py": "def add(a, b):\n    return a - b\n"}, self._answer, workdir)
        self._diff = DIFF.format(number=number)

    def _answer(self, command: str) -> ExecResult:
        if ".git/eval_" in command:
            return said(f"PASSED {TEST}\n")
        if "git" not in command:
            return said("calc.py\ntest_calc.py\n")
        return said(self._diff if " diff " in command else "")

    async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
        await asyncio.sleep(GRADE_S if ".git/eval_" in command else 0.0 if "git" in command else TOOL_S)
        return await super().run(command, timeout_s, max_output_bytes)


class WaitingBackend:
    """Starts waiting sandboxes."""

    def __init__(self, config: SandboxConfig, images: FolderImages, owner: str) -> None:
        self.started = 0

    async def start(self, image: str, workdir: str) -> WaitingSandbox:
        self.started += 1
        return WaitingSandbox(self.started, workdir)

    async def close(self) -> None:
        """Nothing runs here."""


class PacedPolicy:
    """Lists the folder TURNS - 1 times and submits; every completion comes after GENERATE_S."""

    def __init__(self, chat: ChatFormat) -> None:
        calls = (ToolCall("execute_bash", {"command": "ls"}), ToolCall("submit", {}))
        self._says = [chat.completion_ids(render_action(call)) for call in calls]
        self._asked: dict[str, int] = {}

    async def __call__(self, request: GenerateRequest) -> Completion:
        asked = self._asked[request.session_id] = self._asked.get(request.session_id, 0) + 1
        await asyncio.sleep(GENERATE_S)
        ids = self._says[asked == TURNS]
        return Completion(ids, np.full(len(ids), -0.5, np.float32), np.zeros(len(ids), np.int32), "stop")


class PacedWorker(RolloutWorker):
    """The rollout worker with the policy `paced` besides."""

    async def start(self, config: RunConfig, model_dir: str, images_root: str, journal_path: str, owner: str) -> None:
        await super().start(config, model_dir, images_root, journal_path, owner)
        self._policies["paced"] = PacedPolicy(self._chat)


def bench_task(index: int) -> Task:
    name = f"bench-{index}"
    oracle = Oracle(name, "", "", (TEST,), (), "true\n", "parse_log_pytest", 60.0)
    problem = Problem(name, "bench", "c0", "folder:bench", "/testbed", "add should add")
    return Task(problem, oracle, "bench", "train", "python", "Apache-2.0", "")


async def concurrent_episodes(count: int, folder: Path) -> dict[str, float]:
    """Play `count` episodes of TURNS turns in groups of GROUP_SIZE at once, in one worker; cost in CPU seconds and memory."""
    SANDBOXES["waiting"] = WaitingBackend
    episode = EpisodeConfig(max_turns=TURNS, max_tokens=100_000, max_tokens_per_turn=256, episode_timeout_s=3600.0)
    config = RunConfig(
        sandbox=SandboxConfig(backend="waiting", num_sandboxes=count),
        rollout=RolloutConfig(episode=episode, concurrency=count, lease_s=7200.0),
    )
    worker = PacedWorker()
    await worker.start(config, str(resolve_model_path("tiny_base")), str(folder / "images"), str(folder / "w.jsonl"), "bench")
    gc.collect()
    memory, cpu, began = resident_mib(), time.process_time(), time.monotonic()
    tasks = map(bench_task, range(count // GROUP_SIZE))
    groups = await asyncio.gather(*(worker.play_group(GroupRequest(task, "paced", GROUP_SIZE, 1.0, seed=0)) for task in tasks))
    cpu, wall = time.process_time() - cpu, time.monotonic() - began
    added, stats = resident_mib() - memory, await worker.stats()
    await worker.close()
    members = [member for group in groups for member in group.members]
    turns = sum(len(member.trajectory.turns) for member in members)
    return {
        "episodes": float(len(members)),
        "lost": float(sum(len(group.lost) for group in groups)),
        "resolved": float(sum(member.resolved for member in members)),
        "graded": stats["graded"],
        "turns": float(turns),
        "wall_s": wall,
        "share_of_a_core": cpu / wall,
        "cpu_ms_per_turn": cpu / turns * 1000,
        "added_memory_mib": added,
    }


@dataclass
class InstantWorld:
    """Rollouts and learner of the driver's half."""

    version: int = 0
    memory: dict[int, float] = field(default_factory=dict)

    async def play(self, key: GroupKey, version: int, resumed: bool) -> Group:
        await asyncio.sleep(1.0 + key.index / 10)
        ids = np.ones(TURN_TOKENS, np.int32)
        turn = Turn(ids, ids, np.full(TURN_TOKENS, -0.1, np.float32), ids * self.version, "x" * 400, "", "y" * 800, 1.0, 1.0)

        def member(index: int) -> ScoredTrajectory:
            trajectory = Trajectory(key.task_id, index, "scripted", "p", (turn,) * 5, Patch(""), StopReason.SUBMITTED, 1.0)
            return ScoredTrajectory(trajectory, Reward(float(index % 2), {}, True), index % 2 == 1, "log")

        return Group(key.task_id, tuple(map(member, range(GROUP_SIZE))), ())

    async def cut(self, key: GroupKey) -> None:
        """Nothing is late here."""

    async def train_step(self, samples: list[TrainSample], loss: LossSpec) -> dict[str, float]:
        await asyncio.sleep(1.0)
        return {"loss": 0.0}

    async def sync_weights(self, version: int) -> float:
        self.version = version
        return 0.0

    async def save(self, step: int) -> None:
        """The learner's business."""


def driver_steps(num_steps: int, folder: Path) -> dict[str, Any]:
    """Run the loop for `num_steps` steps with everything it writes; resident memory along the way."""
    config = GRPOConfig(num_steps=num_steps, groups_per_step=GROUPS, group_size=GROUP_SIZE, max_staleness=2)
    world, sink = InstantWorld(), JSONLSink(folder / "metrics.jsonl")
    (folder / "logs").mkdir()
    outcomes = OutcomeLog(folder / "logs" / "outcomes.jsonl", 0, REWARDS["swe_master"])
    plan = StepPlan(config, VerifierConfig(), [f"task-{index}" for index in range(500)], 0, outcomes.before)
    ledger = WindowLedger(folder / "window", 0, GROUPS)

    def on_step(step: int, metrics: dict[str, float], groups: list[Group]) -> None:
        outcomes.add(step - 1, groups)
        write_shard(folder / "trajectories", f"{step:05d}", [(group, step) for group in groups])
        sink.log("grpo", step, {**metrics, **rollout_metrics(groups), "reward/alpha": plan.alpha(step - 1)})
        ledger.forget_before(step - step % 5)
        if step % max(num_steps // 10, 1) == 0:
            gc.collect()
            world.memory[step] = round(resident_mib(), 1)

    cpu = time.process_time()
    run_simulated(run_grpo(config, plan, world, world, ledger, 0, on_step))
    steps = sorted(world.memory)
    return {
        "steps": num_steps,
        "cpu_ms_per_step": (time.process_time() - cpu) / num_steps * 1000,
        "resident_mib": world.memory,
        "growth_mib": world.memory[steps[-1]] - world.memory[steps[1]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="orchestration-") as name:
        folder = Path(name)
        worker = asyncio.run(concurrent_episodes(options.episodes, folder))
        result = {"worker": worker, "driver": driver_steps(options.steps, folder)}
    if options.json:
        sys.stdout.write(orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode() + "\n")
    else:
        sys.stdout.write("".join(f"{half}: {figures}\n" for half, figures in result.items()))


if __name__ == "__main__":
    main()
