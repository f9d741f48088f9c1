"""The path of a trajectory in one process: row, task, episodes, grading, reward, advantage, samples, micro-batch, gradient.

The policy, the sandbox and the log of the hidden tests are scripted; everything between them is the product's own code.
"""

import difflib
from typing import Any

import numpy as np
import pytest
import torch

from configs.rollout_config import EpisodeConfig
from envpool.action_format import ToolCall, render_action
from envpool.agent.episode import run_episode
from envpool.patch import Patch
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox, said
from envpool.task import Task
from envpool.task_sources import TASK_SOURCES
from envpool.trajectory import StopReason, Trajectory
from tests.actors.random_qwen import write_random_qwen
from tests.envpool.agent.agent_doubles import CHAT, LinePolicy
from trainers.advantages import ADVANTAGES
from trainers.loss_spec import LossSpec
from trainers.losses import LOSSES
from trainers.packing import pack
from trainers.pretrained_lm import PretrainedLM, load_pretrained_lm
from trainers.sample_building import flatten_group
from trainers.train_sample import TrainSample
from verifier.grading import grade_run, ungraded_report
from verifier.reward import Group, LostEpisode, ScoredTrajectory
from verifier.rewards import REWARDS, compute_reward
from verifier.test_report import TestReport, TestStatus
from verifier.test_run import TestRun

BROKEN = "def area(w, h):\n    return w - h\n"
FIXED_LINE = "+    return w + h"
ROW = {
    "instance_id": "shapes-1",
    "repo": "demo/shapes",
    "base_commit": "0" * 40,
    "problem_statement": "area should add w and h",
    "patch": "diff --git a/shapes.py b/shapes.py\n--- a/shapes.py\n+++ b/shapes.py\n@@ -2 +2 @@\n"
    "-    return w - h\n+    return w + h\n",
    "test_patch": "diff --git a/test_area.py b/test_area.py\n--- a/test_area.py\n+++ b/test_area.py\n@@ -1 +1 @@\n-old\n+new\n",
    "FAIL_TO_PASS": '["test_area.py::test_area"]',
    "PASS_TO_PASS": '["test_area.py::test_name"]',
    "docker_image": "demo/shapes:1",
    "install_config": {"install": "true", "test_cmd": "pytest -rA", "log_parser": "parse_log_pytest"},
}
EPISODE = EpisodeConfig(max_turns=3, max_tokens=4000, max_tokens_per_turn=400)
VIEW = render_action(ToolCall("str_replace_editor", {"command": "view", "path": "shapes.py"}))
SUBMIT = render_action(ToolCall("submit", {}))
SPEC = LossSpec("clip_higher", max_response_tokens=500)


def edit(new: str) -> str:
    call = {"command": "str_replace", "path": "shapes.py", "old_str": "w - h", "new_str": new}
    return render_action(ToolCall("str_replace_editor", call))


def scripted_sandbox() -> ScriptedSandbox:
    """Files in memory; asked by git for the patch, it compares them with the broken file."""

    def diff(command: str) -> Any:
        assert "diff --cached" in command, command
        now = sandbox.files["/testbed/shapes.py"].decode()
        lines = difflib.unified_diff(BROKEN.splitlines(True), now.splitlines(True), "a/shapes.py", "b/shapes.py")
        body = "".join(lines)
        return said(f"diff --git a/shapes.py b/shapes.py\n{body}" if body else "")

    sandbox = ScriptedSandbox({"/testbed/shapes.py": BROKEN}, diff)
    return sandbox


def hidden_test_report(task: Task, patch: Patch) -> TestReport:
    """The log that the hidden tests print for this patch, graded."""
    verdict = "PASSED" if FIXED_LINE in patch.diff.splitlines() else "FAILED"
    log = f"{verdict} test_area.py::test_area\nPASSED test_area.py::test_name\n"
    if patch.is_empty:
        return ungraded_report(task.oracle, "the patch is empty")
    junit = (
        f'<testsuite><testcase classname="test_area" name="test_area">{"" if verdict == "PASSED" else "<failure/>"}</testcase>'
    )
    junit += '<testcase classname="test_area" name="test_name"/></testsuite>'
    return grade_run(task.oracle, TestRun(log, exit_code=int(verdict == "FAILED"), junit_xml=junit))


async def play(task: Task, index: int, lines: list[str]) -> Trajectory:
    return await run_episode(
        task.problem, scripted_sandbox(), LinePolicy(CHAT, lines), CHAT, EPISODE,
        sample_index=index, policy_name="lines", temperature=1.0, seed=0,
    )  # fmt: skip


async def played_group(task: Task) -> Group:
    """Solved and submitted; solved but never submitted; wrong; one lost to a sandbox that died."""
    scripts = [[VIEW, edit("w + h"), SUBMIT], [VIEW, edit("w + h"), VIEW], [VIEW, edit("w * h"), SUBMIT]]
    members = []
    for index, lines in enumerate(scripts):
        trajectory = await play(task, index, lines)
        report = hidden_test_report(task, trajectory.patch)
        reward = compute_reward(REWARDS["swe_master"], trajectory.stop_reason, report.resolved, truncated_factor=0.5)
        members.append(ScoredTrajectory(trajectory, reward, report.resolved, report.log))
    return Group(task.instance_id, tuple(members), (LostEpisode(3, "SandboxLostError: died"),))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> PretrainedLM:
    return load_pretrained_lm(write_random_qwen(tmp_path_factory.mktemp("model"), seed=0), "float32")


def trained_logprob(model: PretrainedLM, sample: TrainSample) -> float:
    """Sum of the log-probs of the sample's trained tokens."""
    (batch,) = pack([sample], 10_000, lambda one: one.loss_mask.astype(np.float32))
    with torch.no_grad():
        return float(model(batch).sum())


async def test_row_to_gradient(model: PretrainedLM) -> None:
    task = TASK_SOURCES["swe_rebench"](ROW)
    group = await played_group(task)
    assert [member.trajectory.stop_reason for member in group.members] == [
        StopReason.SUBMITTED_LAST_TURN, StopReason.MAX_TURNS, StopReason.SUBMITTED_LAST_TURN,
    ]  # fmt: skip
    assert [member.resolved for member in group.members] == [True, True, False]
    assert [member.reward.value for member in group.members] == [1.0, 0.5, 0.0]
    wrong = hidden_test_report(task, group.members[2].trajectory.patch)
    assert wrong.status["test_area.py::test_area"] is TestStatus.FAILED

    samples = flatten_group(group, ADVANTAGES["leave_one_out"])
    assert [float(sample.advantages.max() + sample.advantages.min()) for sample in samples] == [0.75, 0.0, -0.75]
    first = group.members[0].trajectory
    assert samples[0].token_ids.tolist() == [
        token for turn in first.turns for token in (*turn.context_ids.tolist(), *turn.completion_ids.tolist())
    ]
    assert CHAT.decode(samples[0].token_ids[samples[0].loss_mask == 1]).count("<function=") == 3

    loss = LOSSES[SPEC.name](SPEC)
    on_policy = [with_own_logprobs(model, sample) for sample in samples]
    normaliser = sum(loss.normaliser(sample) for sample in on_policy)
    assert normaliser == 3
    before = [trained_logprob(model, sample) for sample in samples]
    for batch in pack(on_policy, 1000, loss.weights):
        token_losses = loss.token_losses(model(batch), batch.rollout_logprobs, batch.advantages)
        ((token_losses * batch.weights).sum() / normaliser).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            assert parameter.grad is not None
            assert torch.isfinite(parameter.grad).all()
            parameter -= 0.5 * parameter.grad
    gained = [trained_logprob(model, sample) - was for sample, was in zip(samples, before, strict=True)]
    assert gained[0] - gained[2] > 0.01  # the solution became likelier against the failure


def with_own_logprobs(model: PretrainedLM, sample: TrainSample) -> TrainSample:
    """The sample as if this model had sampled it."""
    (batch,) = pack([sample], 10_000, lambda one: one.loss_mask.astype(np.float32))
    logprobs = np.zeros(len(sample.token_ids), np.float32)
    with torch.no_grad():
        logprobs[batch.predicted.numpy()] = model(batch).numpy()
    return TrainSample(sample.token_ids, sample.loss_mask, logprobs, sample.advantages, sample.policy_versions, sample.group)
