"""Finding a Docker engine that answers, and removing what dead processes left on it."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound
from requests.exceptions import RequestException

from envpool.sandbox_errors import SandboxUnavailableError

DEFAULT_SOCKET = "/var/run/docker.sock"
LOCAL_FOLDER = ".docker-local"
PING_S = 10
POOL_SIZE = 128  # connections; every live shell keeps one
OWNER, LEASE, EXPIRES = "swe-master.owner", "swe-master.lease", "swe-master.expires"
ENGINE_ERRORS = (DockerException, RequestException, OSError)


def engine_addresses(docker_host: str) -> list[str]:
    """Where an engine may answer, best first; a configured address stands alone, so that it never means another engine.

    >>> engine_addresses("tcp://engine:2375")
    ['tcp://engine:2375']
    """
    return [docker_host] if docker_host else list(dict.fromkeys(_candidates()))


def connect(docker_host: str, timeout_s: float) -> Any:
    """A `docker.APIClient` for the first engine that answers. Raises SandboxUnavailableError that says what was tried.

    `timeout_s` bounds every later call (connect and each read).
    """
    tried = []
    for address in engine_addresses(docker_host):
        if not address.startswith(("unix://", "tcp://", "http://")):
            tried.append(f"{address} (only unix:// and tcp:// addresses can carry a shell)")
            continue
        try:
            client = docker.APIClient(base_url=address, version="auto", timeout=PING_S, max_pool_size=POOL_SIZE)
            client.ping()
        except ENGINE_ERRORS as error:
            tried.append(f"{address} ({type(error).__name__})")
            continue
        client.timeout = timeout_s
        return client
    where = ", ".join(tried) or "nowhere: no address is configured and no socket exists"
    raise SandboxUnavailableError(
        f"no Docker engine answers; tried {where}. Start one (make docker-local) or set sandbox.docker_host"
    )


def lease_name(number: int) -> str:
    """The value of the lease label: which process, on which machine, holds the container.

    The process's start time is part of it, so that a new process of the same number does not count as the old one.
    """
    return f"{socket.gethostname()}/{os.getpid()}/{_started_ticks(os.getpid())}/{number}"


def reap(client: Any, owner: str) -> int:
    """Remove containers of `owner` whose process is gone (on this machine) or whose time is over; how many."""
    removed = 0
    for container in client.containers(all=True, filters={"label": f"{OWNER}={owner}"}):
        labels = container.get("Labels") or {}
        if not _is_abandoned(labels.get(LEASE, ""), labels.get(EXPIRES, "0")):
            continue
        with suppress(NotFound, APIError):
            client.remove_container(container["Id"], force=True, v=True)
            removed += 1
    return removed


def _is_abandoned(lease: str, expires: str) -> bool:
    if not expires.isdigit() or int(expires) < time.time():
        return True
    host, _, rest = lease.partition("/")
    pid, _, rest = rest.partition("/")
    started = rest.partition("/")[0]
    return host == socket.gethostname() and pid.isdigit() and _started_ticks(int(pid)) != started


def _started_ticks(pid: int) -> str:
    """Start time of a process as /proc has it; "" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _candidates() -> Iterator[str]:
    if os.environ.get("DOCKER_HOST"):
        yield os.environ["DOCKER_HOST"]
    if Path(DEFAULT_SOCKET).exists():
        yield f"unix://{DEFAULT_SOCKET}"
    for root in (Path(__file__).resolve().parent.parent, Path.cwd()):
        noted, usual = root / LOCAL_FOLDER / "docker_host", root / LOCAL_FOLDER / "docker.sock"
        if noted.is_file():  # written by docker_local.sh: the socket may lie elsewhere when this path is too long
            yield noted.read_text(encoding="utf-8").strip()
        elif usual.exists():
            yield f"unix://{usual}"
