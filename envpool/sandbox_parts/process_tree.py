"""Processes of this machine as /proc shows them: who descends from whom, and ending them."""

import os
import signal
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
MAX_ROUNDS = 50  # a process that forks while it is killed is found again in the next round


@dataclass(frozen=True)
class ProcessEntry:
    """One live process; `started_ticks` counts clock ticks since boot."""

    pid: int
    parent: int
    started_ticks: int


def live_processes() -> list[ProcessEntry]:
    """All processes that are not zombies."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with suppress(OSError):
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()  # the command's name before it may hold anything
            if fields[0] not in (b"Z", b"X"):
                found.append(ProcessEntry(int(name), int(fields[1]), int(fields[19])))
    return found


def now_ticks() -> int:
    """The time in the unit and epoch of `ProcessEntry.started_ticks`."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * CLOCK_TICKS)


def descendants(root: int, processes: list[ProcessEntry]) -> list[ProcessEntry]:
    """Children of `root`, their children, and so on; `root` itself is left out."""
    children = defaultdict(list)
    for process in processes:
        children[process.parent].append(process)
    found: list[ProcessEntry] = []
    todo = [root]
    while todo:
        below = children[todo.pop()]
        found += below
        todo += [process.pid for process in below]
    return found


def carries(pid: int, marker: bytes) -> bool:
    """Whether the process was started with `marker` (NAME=value) in its environment; False when that cannot be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return marker in file.read().split(b"\0")
    except OSError:
        return False


def children_of(pid: int) -> list[int]:
    """Direct children, oldest first; empty when the process is gone."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return []


def kill_all(root: int, marker: bytes | None, born_after_ticks: int = 0, spared: frozenset[int] = frozenset()) -> None:
    """SIGKILL what descends from `root` or carries `marker` and was born at or after `born_after_ticks`; `root` and
    `spared` live on.

    Repeats until nothing is found, so that what is forked meanwhile dies too. One pass reads /proc: some milliseconds.
    """
    for _ in range(MAX_ROUNDS):
        processes = live_processes()
        below = {process.pid for process in descendants(root, processes)}
        doomed = [
            process.pid
            for process in processes
            if process.started_ticks >= born_after_ticks
            and process.pid != root
            and process.pid not in spared
            and (process.pid in below or (marker is not None and carries(process.pid, marker)))
        ]
        if not doomed:
            return
        for pid in doomed:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.001)
