"""Limits of memory, processes and CPU for process sandboxes, by Linux control groups where this process may make them.

Version 1 has one hierarchy per controller, version 2 one for all; in version 2 the controllers must be enabled for children of
this process's own group, which a plain process usually may not do. Where nothing can be made, no group is made and nothing is
limited; `limited_controllers` says what is.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
CONTROLLERS = ("memory", "pids", "cpu")
CPU_PERIOD_US = 100_000
# Joins every group named before --, then becomes the command: no process of the sandbox is ever outside.
JOIN = 'while [ "$1" != -- ]; do echo $$ > "$1" || exit 125; shift; done; shift; exec "$@"'


@dataclass(frozen=True)
class GroupLimits:
    """What one sandbox may use: MiB of memory (page cache and tmpfs count, swap is not given), processes, CPUs."""

    memory_mib: int
    pids: int
    cpus: float

    def version_1(self, controller: str) -> dict[str, str]:
        """File -> text for one controller.

        >>> GroupLimits(64, 100, 0.5).version_1("cpu")
        {'cpu.cfs_period_us': '100000', 'cpu.cfs_quota_us': '50000'}
        """
        memory = str(self.memory_mib << 20)
        return {
            "memory": {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory},
            "pids": {"pids.max": str(self.pids)},
            "cpu": {"cpu.cfs_period_us": str(CPU_PERIOD_US), "cpu.cfs_quota_us": str(int(self.cpus * CPU_PERIOD_US))},
        }[controller]

    def version_2(self) -> dict[str, str]:
        """File -> text.

        >>> GroupLimits(64, 100, 0.5).version_2()["cpu.max"]
        '50000 100000'
        """
        return {
            "memory.max": str(self.memory_mib << 20),
            "memory.swap.max": "0",
            "pids.max": str(self.pids),
            "cpu.max": f"{int(self.cpus * CPU_PERIOD_US)} {CPU_PERIOD_US}",
        }


def own_groups(text: str) -> dict[str, str]:
    """/proc/self/cgroup as controller -> path; version 2's single group has the controller "".

    >>> own_groups("4:memory:/box/1\\n2:cpu,cpuacct:/\\n0::/\\n")
    {'memory': '/box/1', 'cpu': '/', 'cpuacct': '/', '': '/'}
    """
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), path))
    return found


@cache
def parents() -> tuple[tuple[str, Path], ...]:
    """(controller, folder) where groups can be made; the controller is "" for version 2. Tried once per process."""
    return tuple(_usable_parents(MOUNT, OWN_GROUPS))


def limited_controllers() -> tuple[str, ...]:
    """Which of memory, pids and cpu are limited here."""
    return tuple(name for name, _ in parents() if name) or (CONTROLLERS if parents() else ())


class ControlGroup:
    """The groups of one sandbox. `make` raises OSError."""

    def __init__(self, name: str, within: tuple[tuple[str, Path], ...] | None = None) -> None:
        self._folders = [(controller, parent / name) for controller, parent in (parents() if within is None else within)]

    def make(self, limits: GroupLimits) -> None:
        for controller, folder in self._folders:
            folder.mkdir(exist_ok=True)
            for file, text in (limits.version_1(controller) if controller else limits.version_2()).items():
                if "sw" in file and not (folder / file).exists():  # a kernel that does not count swap
                    continue
                (folder / file).write_text(text, encoding="ascii")

    def joined(self, command: list[str]) -> list[str]:
        """`command`, run inside."""
        if not self._folders:
            return command
        return ["/bin/sh", "-c", JOIN, "join", *(str(folder / "cgroup.procs") for _, folder in self._folders), "--", *command]

    def remove(self) -> None:
        """Once nothing runs in it any more; a group that still holds a process stays. Idempotent."""
        for _, folder in self._folders:
            with suppress(OSError):
                folder.rmdir()


def remove_empty_groups(prefix: str, is_held: Callable[[str], bool]) -> int:
    """Remove groups whose name begins with `prefix`, is held by nobody, and in which nothing runs; how many."""
    removed = 0
    for _, parent in parents():
        for folder in parent.glob(f"{prefix}*"):
            if not is_held(folder.name):
                with suppress(OSError):
                    folder.rmdir()
                    removed += 1
    return removed


def _usable_parents(mount: Path, own: Path) -> Iterator[tuple[str, Path]]:
    try:
        groups = own_groups(own.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    unified = mount / groups.get("", "/").lstrip("/")
    if (unified / "cgroup.subtree_control").is_file():
        enabled = (unified / "cgroup.subtree_control").read_text(encoding="ascii").split()
        if set(CONTROLLERS) <= set(enabled) and _can_make(unified):
            yield "", unified
        return
    for controller in CONTROLLERS:
        parent = mount / controller / groups.get(controller, "/").lstrip("/")
        if controller in groups and (parent / "cgroup.procs").is_file() and _can_make(parent):
            yield controller, parent


def _can_make(parent: Path) -> bool:
    probe = parent / "swe-master-probe"
    try:
        probe.mkdir(exist_ok=True)
        probe.rmdir()
    except OSError:
        return False
    return True
