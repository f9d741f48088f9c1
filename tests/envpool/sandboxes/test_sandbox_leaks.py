"""The leak benchmark in small, as a user would run it: workers and sandboxes are killed, nothing may stay.

How often is measured in what a calm run of two episodes takes here: a worker of a slow machine must live long enough to
finish some.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks/sandbox_leaks.py"


def run(*options: str) -> dict[str, Any]:
    command = [sys.executable, str(SCRIPT), "--json", "--seed", "1", "--concurrency", "5", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=SCRIPT.parents[1])
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    record = json.loads(done.stdout)
    assert isinstance(record, dict)
    return record


def calm_s(*options: str) -> float:
    return float(run(*options, "--episodes", "2", "--kill-s", "100000", "--kill-worker-s", "100000")["seconds"])


def check(record: dict[str, Any]) -> None:
    assert record["finished"] + sum(record["reported"].values()) == record["episodes"]
    assert record["finished"] > 0
    assert record["leaked"] == {"containers": 0, "processes": 0, "descriptors": 0, "folders": 0}


@pytest.mark.docker
def test_no_leaks_with_docker(docker_engine: str) -> None:
    options = ("--backend", "docker", "--docker-host", docker_engine)
    calm = calm_s(*options)
    check(run(*options, "--episodes", "12", "--kill-s", str(max(1.5, calm / 3)), "--kill-worker-s", str(max(6.0, calm))))


def test_no_leaks_with_processes() -> None:
    # Sandboxes are not killed one by one here: a shell that dies may have been killed by its agent, and that is a result.
    options = ("--backend", "process")
    worker_s = max(4.0, calm_s(*options))
    check(run(*options, "--episodes", "20", "--kill-s", "100000", "--kill-worker-s", str(worker_s)))
