"""Finding a Docker engine that answers."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from envpool.sandbox_errors import SandboxUnavailableError

DEFAULT_SOCKET = "/var/run/docker.sock"
LOCAL_FOLDER = ".docker-local"
PING_S = 10
POOL_SIZE = 128  # connections; every live shell keeps one
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


def _candidates() -> Iterator[str]:
    if os.environ.get("DOCKER_HOST"):
        yield os.environ["DOCKER_HOST"]
    if Path(DEFAULT_SOCKET).exists():
        yield f"unix://{DEFAULT_SOCKET}"
    for root in (Path(__file__).resolve().parents[2], Path.cwd()):
        noted, usual = root / LOCAL_FOLDER / "docker_host", root / LOCAL_FOLDER / "docker.sock"
        if noted.is_file():  # written by docker_local.sh: the socket may lie elsewhere when this path is too long
            yield noted.read_text(encoding="utf-8").strip()
        elif usual.exists():
            yield f"unix://{usual}"
