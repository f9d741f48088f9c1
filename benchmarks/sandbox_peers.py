"""What others do for one command, re-implemented as the calls they make: one `docker exec` per command, SWE-ReX's session."""

import contextlib
import itertools
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

SWE_REX = "swe-rex==1.4.0"
START_S = 120.0


def exec_once(client: Any, container: str, command: str) -> int:
    """One command as R2E-Gym, SWE-Master, rLLM and others run it: create, start, inspect. Its exit code."""
    created = client.exec_create(container, ["/bin/sh", "-c", command], workdir="/testbed")
    client.exec_start(created["Id"])
    return int(client.exec_inspect(created["Id"])["ExitCode"])


@contextlib.contextmanager
def swe_rex_venv(given: Path | None) -> Iterator[Path]:
    """A virtual environment that has SWE-ReX: the given one, or a throw-away one from the package index."""
    if given is not None:
        yield given.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="swe-rex-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=START_S)
        subprocess.run([f"{folder}/bin/pip", "install", "-q", SWE_REX], check=True, timeout=300, stderr=subprocess.DEVNULL)
        yield Path(folder)


def swe_rex_version(venv: Path) -> str:
    """Which SWE-ReX the virtual environment has."""
    ask = [str(venv / "bin/python"), "-c", "import swerex; print(swerex.__version__)"]
    return subprocess.run(ask, check=True, capture_output=True, text=True, timeout=START_S).stdout.strip()


class SweRexContainer:
    """SWE-ReX's own server in a container, spoken to as its client does: one HTTP request per command, in one bash session.

    The server is not installed in the container as SWE-ReX would do it (there is no network): the virtual environment and the
    Python it was made with are mounted. The connection is kept open, which its own client does not do.
    """

    def __init__(self, client: Any, image: str, venv: Path) -> None:
        self._client, self._token = client, secrets.token_hex(8)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        python = Path(os.path.realpath(venv / "bin/python"))
        home = str(python.parent.parent)
        binds = [f"{venv}:{venv}:ro"] + ([] if home == "/usr" else [f"{home}:{home}:ro"])
        options = client.create_host_config(network_mode="host", binds=binds, init=True)
        command = [str(venv / "bin/python"), "-m", "swerex.server", "--port", str(port), "--auth-token", self._token]
        self.container = client.create_container(image, command, host_config=options)["Id"]
        client.start(self.container)
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": self._token}, timeout=60)
        self._requests = itertools.count()

    def open(self) -> None:
        """Wait for the server and start its session."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                if self._http.get("/is_alive").is_success:
                    break
            except httpx.HTTPError:
                pass
            if time.monotonic() > deadline:
                logs = self._client.logs(self.container).decode(errors="replace")[-500:]
                raise TimeoutError(f"SWE-ReX's server does not answer within {START_S:g} s: {logs}")
            time.sleep(0.2)
        self._http.post(
            "/create_session", json={"session": "default", "session_type": "bash", "startup_timeout": 10.0}
        ).raise_for_status()

    def run(self, command: str) -> int:
        """One command in the session; its exit code."""
        body = {"action_type": "bash", "command": command, "session": "default", "timeout": 30.0, "check": "silent"}
        answer = self._http.post("/run_in_session", json=body, headers={"X-Request-ID": str(next(self._requests))})
        answer.raise_for_status()
        return int(answer.json()["exit_code"])

    def close(self) -> None:
        self._http.close()
        self._client.remove_container(self.container, force=True)
