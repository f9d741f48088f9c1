"""Checks of what a run uses beside the machine: sandboxes, Docker, GPUs, the Ray cluster, W&B."""

import asyncio
import os
import subprocess
import tempfile
from pathlib import Path

from cluster.cluster_fit import unplaced
from cluster.finding import Check, Finding
from cluster.placement import PlacementError, fitting_plan, plan_placement
from configs.run_config import RunConfig
from configs.sandbox_config import SandboxConfig

DOCKER_RUN_S = 60.0
ONLY_LOOPBACK = "cut -s -d: -f1 /proc/net/dev | tr -d ' ' | sort -u"
LEAST_DRIVER = 580
"""CUDA 13, which torch 2.13 and vLLM 0.32 are built for."""
NVIDIA_SMI = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader,nounits")


def check_bubblewrap(config: RunConfig) -> Finding:
    from envpool.sandboxes.process_sandbox import bubblewrap_works

    needed = config.sandbox.real_backend == "process" and config.sandbox.isolation == "bubblewrap"
    works = bubblewrap_works()
    advice = "install it and allow user namespaces: without, process sandboxes do not isolate"
    return Finding("bubblewrap", works, needed, "works" if works else "does not work here", advice)


def check_docker(config: RunConfig) -> Finding:
    """An engine that answers, and one command run in a container that has no network."""
    from envpool.sandbox_errors import SandboxError, SandboxUnavailableError
    from envpool.sandbox_parts.docker_engine import connect

    needed = config.sandbox.real_backend == "docker"
    try:
        client = connect(config.sandbox.docker_host, timeout_s=5.0)
        version = client.version()["Version"]
        client.close()
    except SandboxUnavailableError as error:
        advice = "`make docker-local` starts a private engine, or start the system's"
        return Finding("Docker", False, needed, str(error).split(":")[0], advice)
    try:
        devices = asyncio.run(asyncio.wait_for(container_devices(config.sandbox), DOCKER_RUN_S))
    except (SandboxError, OSError, TimeoutError) as error:
        found = f"engine {version}, but no container runs: {' '.join(str(error).split())[:120] or type(error).__name__}"
        return Finding("Docker", False, needed, found, f"is the image {config.sandbox.base_image} there? (make docker-local)")
    found = f"engine {version}; a container sees {', '.join(devices) or 'no network device'}"
    return Finding("Docker", set(devices) <= {"lo"}, needed, found, "sandboxes must have no network: check the engine's settings")


async def container_devices(config: SandboxConfig) -> list[str]:
    """Network devices that a sandbox of an empty folder sees. Raises SandboxError."""
    from envpool.sandbox_parts.image_cache import FolderImages
    from envpool.sandboxes.docker_sandbox import DockerBackend

    with tempfile.TemporaryDirectory(prefix="swe-doctor-") as folder:
        images = FolderImages(Path(folder) / "images")
        backend = DockerBackend(config, images, f"doctor-{os.getpid()}")
        try:
            sandbox = await backend.start(images.add("empty", {"readme": "x\n"}), "/testbed")
            try:
                return (await sandbox.run(ONLY_LOOPBACK, 20.0)).output.split()
            finally:
                await sandbox.close()
        finally:
            await backend.close()


def check_gpu(config: RunConfig) -> Finding:
    wanted = max(config.cluster.engine_gpus, config.cluster.learner_gpus)
    try:
        done = subprocess.run(NVIDIA_SMI, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        advice = "install NVIDIA's driver; for a CPU run set cluster.engine_gpus=0 and cluster.learner_gpus=0"
        return Finding("GPU", wanted == 0, wanted > 0, "none (nvidia-smi does not answer)", advice)
    return gpu_finding(done.stdout, wanted)


def gpu_finding(listing: str, wanted: float) -> Finding:
    """From nvidia-smi's lines `name, driver, MiB`.

    >>> gpu_finding("H100, 570.10, 81559", 1.0).ok, gpu_finding("H100, 580.65, 81559", 1.0).found
    (False, '1 x H100, 80 GiB, driver 580.65')
    """
    rows = [[word.strip() for word in line.split(",")] for line in listing.splitlines() if line.strip()]
    name, driver, memory = rows[0]
    found = f"{len(rows)} x {name}, {float(memory) / 1024:.0f} GiB, driver {driver}"
    ok = len(rows) >= wanted and int(driver.split(".")[0]) >= LEAST_DRIVER
    return Finding("GPU", ok, wanted > 0, found, f"driver {LEAST_DRIVER} or newer and {wanted:g} GPUs in one node are needed")


def check_cluster(config: RunConfig) -> Finding:
    """The Ray cluster that a run would join, and whether it has room for the plan."""
    from cluster.ray_session import ClusterError, cluster_nodes

    try:
        nodes = cluster_nodes(config.cluster)
        if nodes is None:
            return Finding("Ray", True, True, "no address given: a run starts a private head", "")
        offered = {name: 1.0 for node in nodes for name, amount in node.items() if amount}
        left = unplaced(fitting_plan(plan_placement(config), config.cluster.roles, offered), nodes)
    except (ClusterError, PlacementError) as error:
        return Finding("Ray", False, True, str(error), "check cluster.address, RAY_ADDRESS and RAY_AUTH_TOKEN")
    found = f"{len(nodes)} nodes" + (f"; no room for {len(left)} actors" if left else "")
    return Finding("Ray", not left, True, found, "swe-master VERB CONFIG --plan says what is missing")


def check_wandb(config: RunConfig) -> Finding:
    asked = "wandb" in config.trackers
    mode = os.environ.get("WANDB_MODE") or ("online" if os.environ.get("WANDB_API_KEY") else "offline")
    ok = mode != "online" or bool(os.environ.get("WANDB_API_KEY"))
    found = f"{mode}" if asked else "not asked for (trackers)"
    return Finding("W&B", ok or not asked, asked, found, "set WANDB_API_KEY, or WANDB_MODE=offline and `wandb sync` later")


SERVICE_CHECKS: tuple[Check, ...] = (check_bubblewrap, check_docker, check_gpu, check_cluster, check_wandb)
