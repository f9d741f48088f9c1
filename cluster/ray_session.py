"""Joining a Ray cluster, or a private head for the time of a run; and placing a plan's groups on it."""

import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group

from cluster.machine_memory import MIB, free_memory_mib, free_shared_memory_mib
from cluster.placement import GroupPlan, Plan, add_up, describe, fitting_plan
from configs.cluster_config import ClusterConfig
from envpool.sandbox_parts.process_tree import descendants, live_processes

SHARED_MEMORY_RESERVE_MIB = 64
"""Beside the object store: an engine's weight file and message queues."""
TEMP_PREFIX = "swe-ray-"
LONGEST_TEMP_DIR = 34
"""Ray puts sockets about 60 characters below it; a socket's path ends at 107."""

METRIC_PORTS = ("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT")
NO_SUCH_PORT = "65536"
CONNECT_S = 10.0
HEAD_TRIES = 2


class ClusterError(RuntimeError):
    """No cluster to run on: memory, connection or placement; one line with what to do."""


@dataclass(frozen=True)
class RaySession:
    """A connection. `private` when this process started the head and ends it."""

    address: str
    private: bool


@contextmanager
def ray_session(config: ClusterConfig) -> Iterator[RaySession]:
    """Join `config.address`, else RAY_ADDRESS (a submitted job has it), else start a private head; leave or end it after.

    A private head has no dashboard, keeps its files in a temp folder that is removed with it, and answers only those who know
    the token in ~/.ray (unless RAY_AUTH_MODE says otherwise). Raises ClusterError.
    """
    address = config.address or os.environ.get("RAY_ADDRESS", "")
    if ray.is_initialized():
        raise ClusterError("this process is connected to Ray already; a run needs its own session")
    if address:
        yield from _joined(address)
        return
    check_memory(config, free_memory_mib(), free_shared_memory_mib())
    temp_dirs: list[Path] = []
    _hide_token()
    try:
        for tries_left in range(HEAD_TRIES - 1, -1, -1):
            temp_dirs.append(_temp_dir())
            try:
                with _without_metric_servers():
                    _start_head(config, temp_dirs[-1])
                break
            except Exception as error:  # Ray raises bare Exception when its fixed 30 s are over, as on a very busy machine
                _end_head(temp_dirs[-1])
                if tries_left == 0:
                    raise ClusterError(f"cannot start a private Ray head: {_one_line(error)}") from error
        yield RaySession(ray.get_runtime_context().gcs_address, private=True)
    finally:
        ray.shutdown()
        for folder in temp_dirs:
            shutil.rmtree(folder, ignore_errors=True)


def check_memory(config: ClusterConfig, free_mib: int, shared_mib: int) -> None:
    """Raise ClusterError when a private head would not fit into free memory and /dev/shm."""
    if free_mib < config.min_free_memory_mib:
        raise ClusterError(
            f"only {free_mib} MiB of memory are free, a run needs {config.min_free_memory_mib} (cluster.min_free_memory_mib): "
            "close other programs or give the container more"
        )
    needed = config.object_store_mib + SHARED_MEMORY_RESERVE_MIB
    if shared_mib < needed:
        raise ClusterError(
            f"/dev/shm has {shared_mib} MiB free, the object store and weights need {needed}: mount it larger "
            "(docker run --shm-size=1g) or lower cluster.object_store_mib"
        )


@contextmanager
def placed_groups(plan: Plan, timeout_s: float, roles: str = "auto") -> Iterator[dict[str, PlacementGroup]]:
    """The plan's placement groups by name, removed after use. Raises ClusterError naming what the cluster lacks."""
    groups = create_placement_groups(fitting_plan(plan, roles, ray.cluster_resources()), timeout_s)
    try:
        yield groups
    finally:
        for group in groups.values():
            remove_placement_group(group)


def create_placement_groups(plan: Plan, timeout_s: float) -> dict[str, PlacementGroup]:
    """Reserve every group of the plan, or none: raises ClusterError after `timeout_s` seconds altogether."""
    groups = {group.name: placement_group(list(group.bundles), strategy=group.strategy) for group in plan.groups}
    try:
        ray.get([group.ready() for group in groups.values()], timeout=timeout_s)
    except ray.exceptions.GetTimeoutError as error:
        waiting = [group for group in plan.groups if not groups[group.name].wait(0)]
        for group in groups.values():
            remove_placement_group(group)
        raise ClusterError(missing_text(waiting, plan, ray.cluster_resources(), timeout_s)) from error
    return groups


def missing_text(waiting: list[GroupPlan], plan: Plan, cluster: dict[str, float], timeout_s: float) -> str:
    """Which group waits for what. Amounts are of the whole plan, against the whole cluster."""
    needed = add_up(tuple(bundle for group in plan.groups for bundle in group.bundles))
    short = {name: amount for name, amount in needed.items() if amount > cluster.get(name, 0.0)}
    has = {name: cluster.get(name, 0.0) for name in needed}
    names = ", ".join(group.name for group in waiting) or "all groups"
    why = f"the run needs {describe(needed)}, the cluster has " + ", ".join(f"{amount:g} {name}" for name, amount in has.items())
    if not short:
        why += "; enough in sum, but in use or on nodes that do not hold a whole bundle"
    return f"placement of {names} not ready within {timeout_s:g} s: {why} (see --plan)"


def cluster_nodes(config: ClusterConfig) -> list[dict[str, float]] | None:
    """What each live node of the run's cluster offers; None when the run would start a private head. Raises ClusterError."""
    address = config.address or os.environ.get("RAY_ADDRESS", "")
    if not address:
        return None
    with ray_session(config):
        return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _joined(address: str) -> Iterator[RaySession]:
    try:
        _require_listener(address)
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:  # TimeoutError is an OSError
        raise ClusterError(f"cannot join the Ray cluster at {address}: {_one_line(error)}") from error
    try:
        yield RaySession(ray.get_runtime_context().gcs_address, private=False)
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Raise OSError when nothing listens there: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():  # not "auto"
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()


@contextmanager
def _without_metric_servers() -> Iterator[None]:
    """While a head starts: the metric servers of its monitor and dashboard, which ask for no token, get a port that does not
    exist; they log that and go on."""
    added = [name for name in METRIC_PORTS if name not in os.environ]
    os.environ.update(dict.fromkeys(added, NO_SUCH_PORT))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _start_head(config: ClusterConfig, temp_dir: Path) -> None:
    logging.getLogger("ray").setLevel(logging.ERROR)  # it speaks of tokens before it reads `logging_level`
    ray.init(
        address="local",
        num_cpus=config.num_cpus or None,
        include_dashboard=False,
        object_store_memory=max(config.object_store_mib, 80) * MIB,  # Ray refuses less than 75 MiB
        logging_level=logging.ERROR,
        log_to_driver=False,
        configure_logging=False,
        _temp_dir=str(temp_dir),
        _system_config={
            "worker_niceness": 0,  # Ray's 15 starves engines on a machine that does anything else
            "enable_metrics_collection": False,  # its Prometheus port asks for no token
        },
    )


def _hide_token() -> None:
    """Ray asks for a token by default and keeps it in the home folder, readable by all: make it the owner's alone."""
    if not any(name in os.environ for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        path = Path.home() / ".ray" / "auth_token"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            path.write_text(secrets.token_hex(32))
        path.chmod(0o600)


def _temp_dir() -> Path:
    """A new folder for a head's files, named after this process; those of processes that were killed are removed."""
    folder = tempfile.gettempdir()
    parent = Path(folder if len(folder) <= LONGEST_TEMP_DIR else "/tmp")
    for old in parent.glob(f"{TEMP_PREFIX}*-*"):
        pid = old.name.removeprefix(TEMP_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{TEMP_PREFIX}{os.getpid()}-", dir=parent))


def _end_head(temp_dir: Path) -> None:
    """End what a failed start left running. Its processes name the temp folder in their command line."""
    ray.shutdown()
    for process in descendants(os.getpid(), live_processes()):
        with suppress(OSError):
            if str(temp_dir).encode() in Path(f"/proc/{process.pid}/cmdline").read_bytes():
                os.kill(process.pid, signal.SIGKILL)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
