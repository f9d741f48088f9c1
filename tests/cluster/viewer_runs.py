"""Small run folders for the viewer's tests, written through the project's own stores."""

from pathlib import Path

import numpy as np
import orjson

from cluster.group_store import GroupStore
from envpool.oracle import Oracle
from envpool.patch import Patch
from envpool.problem import Problem
from envpool.task import Task
from envpool.task_sets.task_store import write_tasks
from envpool.trajectory import StopReason, Trajectory, Turn
from verifier.reward import Group, LostEpisode, Reward, ScoredTrajectory

DIFF = "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1,1 +1,1 @@\n-x = 1\n+x = {}\n"
HOSTILE = '<script>window.owned = 1; alert(1)</script><img src=x onerror="window.owned=2"><svg/onload=window.owned=3>\u202egnp'
LOG = "============\nPASSED t.py::test_old\nFAILED t.py::test_new - assert 1 == 2\n"


def turn(text: str, action: str, observation: str) -> Turn:
    """Three tokens of context, two sampled."""
    return Turn(
        np.array([5, 6, 7], np.int32),
        np.array([8, 9], np.int32),
        np.array([-0.25, -1.5], np.float32),
        np.array([3, 3], np.int32),
        text,
        action,
        observation,
        0.5,
        0.25,
    )


def member(instance_id: str, index: int, resolved: bool, word: str = "alpha", turns: int = 3) -> ScoredTrajectory:
    """Views a file, runs `word`, submits."""
    call = "<function=execute_bash>\n<parameter=command>{}</parameter>\n</function>"
    played = [turn(f"I look. {call.format('cat a.py')}", call.format("cat a.py"), "x = 1")]
    played += [turn(call.format(f"echo {word}"), call.format(f"echo {word}"), f"{word} {number}") for number in range(turns - 2)]
    played += [turn("<function=submit>\n</function>", "<function=submit>\n</function>", "")]
    stop = StopReason.SUBMITTED if resolved else StopReason.MAX_TURNS
    patch = Patch(DIFF.format(index) if resolved else "")
    trajectory = Trajectory(instance_id, index, "engine", f"Fix {instance_id}", tuple(played), patch, stop, 4.0)
    return ScoredTrajectory(trajectory, Reward(float(resolved), {"outcome": float(resolved)}, True), resolved, LOG)


def task(instance_id: str, repo: str) -> Task:
    problem = Problem(instance_id, repo, "c0ffee", "docker:x", "/testbed", f"Fix {instance_id}")
    oracle = Oracle(instance_id, DIFF.format(2), "", ("t.py::test_new",), ("t.py::test_old",), "pytest", "parse_log_pytest", 60.0)
    return Task(problem, oracle, source="swe_bench", split="train", language="python", licence="MIT", raw="{}")


def write_run(root: Path, hostile: bool = False) -> Path:
    """A run `root` with two GRPO steps (two groups of two, one with a lost episode) and a rollout; returns `root`."""
    root.mkdir(parents=True)
    (root / "logs").mkdir()
    (root / "config.yaml").write_text("name: small\ngrpo:\n  advantage: group_mean\n")
    (root / "versions.json").write_text('{"python": "3.11"}')
    (root / "stages.json").write_bytes(
        orjson.dumps({"tasks": {"micro_train": 2, "seconds": 1.5}, "grpo": {"steps": 2, "seconds": 30.0}})
    )
    rows = [
        {"stage": "grpo", "step": step, "time": 100.0 + step, "reward/mean": 0.5, "rollout/resolved": 0.5, "rollout/turns": 3.0,
         "time/rollout_wait_s": 4.0, "time/train_s": 1.0, "time/sync_s": 0.1}
        for step in (1, 2)
    ]  # fmt: skip
    (root / "metrics.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    write_tasks(root / "tasks", [task("acme__anvil-1", "acme/anvil"), task("acme__rope-2", "acme/rope")])
    first = HOSTILE if hostile else "alpha"
    with GroupStore(root / "trajectories" / "grpo") as store:
        store.add(Group("acme__anvil-1", (member("acme__anvil-1", 0, True, first), member("acme__anvil-1", 1, False)), ()), 1)
        store.add(Group("acme__rope-2", (member("acme__rope-2", 0, True, "beta"),), (LostEpisode(1, "sandbox died"),)), 2)
    with GroupStore(root / "trajectories" / "rollout") as store:
        store.add(Group("acme__rope-2", tuple(member("acme__rope-2", index, index == 0, "gamma", 6) for index in range(3)), ()))
    return root
