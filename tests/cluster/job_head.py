"""A real Ray head with its dashboard, for tests of submitted jobs."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent
UP_S = 90.0
SETTLED = "will now block forever"


@dataclass(frozen=True)
class JobHead:
    """`environment` holds the address, the token and a mark that every process of the head inherits."""

    address: str
    environment: dict[str, str]

    def ray(self, *words: str, timeout_s: float = 720.0) -> subprocess.CompletedProcess[str]:
        """Run the `ray` command against this head."""
        return subprocess.run(
            [str(BIN / "ray"), *words], env=self.environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )


@contextmanager
def job_head(mark: str) -> Iterator[JobHead]:
    """Start a head that offers every role and knows one token; ends it with all its processes."""
    folder = Path(tempfile.mkdtemp(prefix="j", dir="/tmp"))
    port, dashboard, client, agent = _free_ports(4)
    address = f"http://127.0.0.1:{dashboard}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        "PATH": f"{BIN}:{environment['PATH']}",
        "SWE_TEST_MARK": mark,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
    }
    command = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=2", "--disable-usage-stats", f"--temp-dir={folder}"]
    command += [
        f"--port={port}",
        f"--ray-client-server-port={client}",
        "--include-dashboard=true",
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={dashboard}",
    ]
    command += [
        f"--dashboard-agent-listen-port={agent}",
        "--object-store-memory=100000000",
        '--resources={"driver": 1, "engine": 1, "learner": 1, "sandbox": 1}',
    ]
    head = _started(command, environment, address, folder / "start.log")
    try:
        yield JobHead(address, {**environment, "RAY_API_SERVER_ADDRESS": address})
    finally:
        _end(head)
        shutil.rmtree(folder, ignore_errors=True)


def _started(command: list[str], environment: dict[str, str], address: str, log: Path) -> subprocess.Popen[bytes]:
    """On a very busy machine Ray gives up on its own parts after fixed 30 s: then once more."""
    for tries_left in (1, 0):
        with log.open("wb") as output:
            head = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_until_up(address, environment["RAY_AUTH_TOKEN"], head, log)
            return head
        except RuntimeError:
            _end(head)
            if tries_left == 0:
                raise
    raise AssertionError("unreachable")


def _end(head: subprocess.Popen[bytes]) -> None:
    head.terminate()
    try:
        head.wait(180)
    except subprocess.TimeoutExpired:
        head.kill()
        head.wait(10)


def _wait_until_up(address: str, token: str, head: subprocess.Popen[bytes], log: Path) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/api/jobs/", data=b'{"entrypoint": "true"}', headers=headers)
    deadline = time.monotonic() + UP_S
    error: OSError | None = None
    while head.poll() is None and time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(request, timeout=30):  # a first job, so that the agent that starts them is there
                if SETTLED in log.read_text():
                    time.sleep(3)  # a part that failed to start ends the head a second later
                    if head.poll() is None:
                        return
        except OSError as failed:
            error = failed
        time.sleep(0.5)
    raise RuntimeError(f"the head did not come up ({error}): {log.read_text()[-1000:]}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
