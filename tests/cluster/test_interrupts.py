"""Ctrl-C in the middle of a run: clean end, nothing left behind, and --resume finishes the rest."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.group_store import read_groups
from cluster.run_folder import RunFolder

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]
COMMAND = [str(Path(sys.executable).parent / "swe-master")]
NUM_TASKS = 48


@pytest.fixture
def marked_environment() -> Iterator[dict[str, str]]:
    """An environment whose every descendant process can be found; what is left of it fails the test."""
    mark = uuid.uuid4().hex
    yield {**os.environ, "SWE_TEST_MARK": mark}
    deadline = time.monotonic() + 60
    while (left := marked_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    for pid in left:
        os.kill(int(pid), signal.SIGKILL)
    assert left == {}


def marked_processes(mark: str) -> dict[str, str]:
    """Process id -> command line of everything that inherited the mark."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if f"SWE_TEST_MARK={mark}".encode() in (folder / "environ").read_bytes():
                    found[folder.name] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
    return found


def start(words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(COMMAND + words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_ctrl_c_leaves_nothing_and_resume_plays_the_rest(tmp_path: Path, marked_environment: dict[str, str]) -> None:
    settings = [
        f"tasks.micro.num_train={NUM_TASKS}",
        "tasks.micro.num_heldout=1",
        "sandbox.isolation=none",
        "rollout.concurrency=4",
    ]
    made = start(["tasks", f"runs_dir={tmp_path}", *settings], marked_environment)
    assert made.wait(540) == 0, made.communicate()[0]
    run = next(tmp_path.iterdir())

    interrupted = start(["rollout", "--resume", str(run)], marked_environment)
    shards = run / "trajectories" / "rollout"
    deadline = time.monotonic() + 540
    while not list(shards.glob("lost_*.jsonl")):
        assert interrupted.poll() is None, interrupted.communicate()[0]
        assert time.monotonic() < deadline, "no shard was written"
        time.sleep(0.05)
    interrupted.send_signal(signal.SIGINT)
    output, _ = interrupted.communicate(timeout=180)
    assert interrupted.returncode == 130, output
    assert f"--resume {run}" in output
    assert "Traceback" not in output
    before = {group.instance_id for group in read_groups(shards)}
    assert 0 < len(before) < NUM_TASKS

    resumed = start(["rollout", "--resume", str(run)], marked_environment)
    assert resumed.wait(540) == 0, resumed.communicate()[0]
    after = [group.instance_id for group in read_groups(shards)]
    assert len(after) == len(set(after)) == NUM_TASKS
    assert before < set(after)
    assert RunFolder.open(run).stage_records()["rollout"]["episodes"] == 4 * NUM_TASKS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sft", "grpo.grop_size=4"], "Did you mean: 'group_size'"),
        (["sft", "--resume", "nowhere"], "nowhere is not a run folder"),
        (["sft", "a.yaml", "b.yaml"], "one configuration file at most"),
        (["curate", "difficulty", "nowhere.jsonl"], "nowhere.jsonl: cannot be read"),
        (["tasks", "tasks.rows=nowhere.json"], "nowhere.json"),
        (["sft"], "needs curate first"),
        (["rollout", "--plan", "engine.tensor_parallel=4"], "engine.tensor_parallel=4 needs cluster.engine_gpus=4"),
        (["view", "nowhere"], "nowhere is not a folder"),
        (["export", "nowhere"], "nowhere is not a run folder"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(tmp_path: Path, words: list[str], message: str) -> None:
    if words[0] in ("sft", "tasks") and "--resume" not in words:
        words = [*words, f"runs_dir={tmp_path}", "tasks.micro.num_train=1", "tasks.micro.num_heldout=1"]
    result = subprocess.run(COMMAND + words, cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False)
    output = result.stdout + result.stderr
    assert result.returncode == 2, output
    assert message in output
    assert "Traceback" not in output
