"""A small real run with keys in its environment: nothing that it writes or says holds one of them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster.ray_session import TEMP_PREFIX

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]

SECRETS = {
    "WANDB_API_KEY": "5ec4e7aa" * 5,  # W&B wants 40 characters
    "TEACHER_KEY": "sk-planted-endpoint-key-81f3",
    "RAY_AUTH_TOKEN": "planted-ray-token-c0ffee-0123456789abcdef",
    "HF_TOKEN": "hf_plantedHubToken77",
}
SETTINGS = [
    "name=secretive",
    "trackers=[wandb,tensorboard]",
    "tasks.micro.num_train=2",
    "tasks.micro.num_heldout=1",
    "rollout.policies=[careful]",
    "rollout.num_samples=1",
    "rollout.endpoint.base_url=http://127.0.0.1:9/v1",
    "rollout.endpoint.api_key_env=TEACHER_KEY",
    "sandbox.isolation=none",
    "sandbox.num_sandboxes=2",
    "cluster.min_free_memory_mib=300",
]


def found_in(folder: Path) -> list[str]:
    """`secret: file` for every planted secret in a file, or a file's name, below the folder."""
    found = []
    for path in folder.rglob("*"):
        try:
            data = path.read_bytes() if path.is_file() and path.stat().st_size < 50_000_000 else b""
        except OSError:  # a socket, or gone meanwhile
            continue
        found += [f"{name}: {path}" for name, value in SECRETS.items() if value.encode() in data or value in path.name]
    return found


def verb(words: list[str], log: Path, environment: dict[str, str]) -> tuple[list[str], int]:
    """Run a verb; returns secrets seen in the private head's own logs, which are gone when it has ended, and how many of those
    there were."""
    seen: list[str] = []
    most_logs = 0
    with log.open("ab") as out:
        run = subprocess.Popen([sys.executable, "-m", "cluster.cli", *words], env=environment, stdout=out, stderr=out)
        while run.poll() is None:
            time.sleep(0.5)
            for logs in Path("/tmp").glob(f"{TEMP_PREFIX}{run.pid}-*/session_2*/logs"):
                seen += found_in(logs)
                most_logs = max(most_logs, len(list(logs.glob("*.log"))))
    assert run.returncode == 0, log.read_text()[-2000:]
    return seen, most_logs


def test_planted_secrets_are_nowhere(tmp_path: Path) -> None:
    environment = {**os.environ, **SECRETS, "WANDB_MODE": "offline", "PYTHONPATH": os.getcwd(), "TMPDIR": "/tmp"}
    log = tmp_path / "stdout.log"
    seen, _ = verb(["tasks", *SETTINGS, f"runs_dir={tmp_path}"], log, environment)
    (root,) = tmp_path.glob("secretive-*")
    more, ray_logs = verb(["rollout", "--resume", str(root)], log, environment)
    assert sorted({*seen, *more}) == []
    assert ray_logs > 0
    written = {path.name for path in root.rglob("*")}
    assert {"report.html", "config.yaml", "driver.log", "metrics.jsonl", "tensorboard"} <= written
    assert list(root.glob("wandb/offline-run-*/*.wandb"))
    assert list(root.glob("trajectories/rollout/*.parquet"))
    assert found_in(tmp_path) == []


def test_the_search_would_find_one(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.bin").write_bytes(b"\x00" + SECRETS["HF_TOKEN"].encode() + b"\x00")
    assert found_in(tmp_path) == [f"HF_TOKEN: {tmp_path}/deep/a.bin"]
