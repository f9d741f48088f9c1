"""How much memory this machine has left, as the kernel and the container around us see it."""

import os
from pathlib import Path

MIB = 1 << 20
SHARED_MEMORY = Path("/dev/shm")


def free_memory_mib(root: Path = Path("/")) -> int:
    """MemAvailable, or what is left of the control group's limit when that is less. `root` is where /proc and /sys are."""
    lines = (root / "proc/meminfo").read_text().splitlines()
    amounts = {key: int(rest.split()[0]) for key, rest in (line.split(":", 1) for line in lines if ":" in line)}
    free = amounts["MemAvailable"] // 1024
    group = root / "sys/fs/cgroup"
    try:
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        cached = next(
            (
                int(line.split()[1])
                for line in (group / "memory.stat").read_text().splitlines()
                if line.startswith("inactive_file ")
            ),
            0,
        )
    except (OSError, ValueError):  # no control group v2, or no limit ("max")
        return free
    return min(free, max(0, (limit - used + cached) // MIB))


def free_shared_memory_mib(folder: Path = SHARED_MEMORY) -> int:
    """Free space of /dev/shm; 0 where there is none."""
    if not folder.is_dir():
        return 0
    stats = os.statvfs(folder)
    return stats.f_bavail * stats.f_frsize // MIB
