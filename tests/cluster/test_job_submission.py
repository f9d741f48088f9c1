"""`ray job submit` against a real head with its dashboard: result, metadata, exit code, stopping, nothing left behind."""

import json
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.group_store import read_groups
from cluster.run_folder import RunFolder
from tests.cluster.job_head import BIN, JobHead, job_head
from tests.cluster.test_interrupts import marked_processes

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]
SUBMIT = ["job", "submit", f"--working-dir={ROOT}", f"--runtime-env={ROOT / 'cluster' / 'runtime_env.yaml'}"]
NUM_TASKS = 6


@pytest.fixture(scope="module")
def head() -> Iterator[JobHead]:
    mark = uuid.uuid4().hex
    with job_head(mark) as running:
        yield running
    deadline = time.monotonic() + 90
    while (left := marked_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert left == {}


def made_run(folder: Path, num_tasks: int) -> Path:
    """A run folder with tasks, on a disk that job and test share."""
    words = ["tasks", f"runs_dir={folder}", f"tasks.micro.num_train={num_tasks}", "tasks.micro.num_heldout=1"]
    words += ["sandbox.isolation=none", "rollout.concurrency=4", "cluster.placement_timeout_s=180"]
    subprocess.run([BIN / "swe-master", *words], check=True, timeout=600, capture_output=True)
    return next(folder.iterdir())


def job(head: JobHead, submission_id: str) -> dict[str, object]:
    """The job's record, from the dashboard."""
    token = head.environment["RAY_AUTH_TOKEN"]
    request = urllib.request.Request(f"{head.address}/api/jobs/{submission_id}", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, object] = json.load(answer)
    return found


def test_a_run_from_a_fresh_clone_succeeds(head: JobHead, tmp_path: Path) -> None:
    run = made_run(tmp_path, NUM_TASKS)
    metadata = json.dumps({"run": run.name, "verb": "rollout"})
    words = ["--submission-id=good", f"--metadata-json={metadata}", "--", "python", "-m", "cluster.cli", "rollout"]
    done = head.ray(*SUBMIT, *words, "--resume", str(run))
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert len(list(read_groups(run / "trajectories" / "rollout"))) == NUM_TASKS
    assert RunFolder.open(run).stage_records()["rollout"]["episodes"] == 4 * NUM_TASKS
    record = job(head, "good")
    assert record["status"] == "SUCCEEDED"
    assert record["metadata"] == {"run": run.name, "verb": "rollout"}
    assert head.environment["RAY_AUTH_TOKEN"] not in done.stdout + done.stderr


def test_a_failing_run_fails_the_job_with_its_words(head: JobHead, tmp_path: Path) -> None:
    words = ["--submission-id=bad", "--", "python", "-m", "cluster.cli", "sft", f"runs_dir={tmp_path}"]
    done = head.ray(*SUBMIT, *words)
    assert done.returncode != 0
    assert "needs curate first" in done.stdout
    record = job(head, "bad")
    assert (record["status"], record["driver_exit_code"]) == ("FAILED", 2)


def test_a_run_folder_in_the_jobs_copy_is_refused(head: JobHead) -> None:
    done = head.ray(*SUBMIT, "--", "python", "-m", "cluster.cli", "tasks")
    assert done.returncode != 0
    assert "give an absolute path on a disk that the nodes share" in done.stdout


def test_stopping_ends_cleanly(head: JobHead, tmp_path: Path) -> None:
    run = made_run(tmp_path, 60)
    words = ["--submission-id=stopped", "--no-wait", "--", "python", "-m", "cluster.cli", "rollout", "--resume", str(run)]
    assert head.ray(*SUBMIT, *words).returncode == 0
    deadline = time.monotonic() + 600
    while not list((run / "trajectories" / "rollout").glob("lost_*.jsonl")):
        assert time.monotonic() < deadline, "no shard was written"
        time.sleep(0.2)
    assert head.ray("job", "stop", "stopped").returncode == 0
    assert job(head, "stopped")["status"] == "STOPPED"
    before = {group.instance_id for group in read_groups(run / "trajectories" / "rollout")}
    assert 0 < len(before) < 60
    listed = head.ray("list", "placement-groups", "--filter", "state=CREATED", "--format=json")
    assert listed.stdout.strip() in ("[]", "No resource in the cluster"), listed.stdout + listed.stderr


def test_a_stranger_is_refused(head: JobHead) -> None:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(f"{head.address}/api/jobs/", timeout=10)
    assert error.value.code == 401
