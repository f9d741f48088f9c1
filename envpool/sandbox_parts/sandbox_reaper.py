"""Finding and removing what dead processes left behind: containers, folders, strays of sandboxes without namespaces.

Whose it is stands on each thing itself, so the reaper needs no memory and survives every crash: a container has labels (owner,
lease, time of expiry), a folder its name (owner, process), a stray the folder's name in its environment. A lease names
machine, process and the process's start time: neither a re-used process number nor a second living worker of the same owner
is mistaken for the dead one. What belongs to other owners is never touched.
"""

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import APIError, NotFound

from envpool.sandbox_parts.local_shell import MARKER
from envpool.sandbox_parts.process_tree import live_processes

OWNER, LEASE, EXPIRES = "swe-master.owner", "swe-master.lease", "swe-master.expires"
FOLDER_OF = r"{owner}(?P<pid>\d+)\.(?P<started>\d+)-[a-z0-9_]+"
MAX_ROUNDS = 20


@dataclass(frozen=True)
class Lease:
    """Who holds a container.

    >>> Lease.parsed("node-1/77/123456/5")
    Lease(host='node-1', pid='77', started='123456', number='5')
    """

    host: str
    pid: str
    started: str
    number: str

    @classmethod
    def mine(cls, number: int) -> "Lease":
        """A lease of this process."""
        pid = os.getpid()
        return cls(socket.gethostname(), str(pid), started_ticks(pid), str(number))

    @classmethod
    def parsed(cls, label: str) -> "Lease | None":
        """From a container's label; None for anything else."""
        parts = label.split("/")
        return cls(*parts) if len(parts) == 4 and parts[1].isdigit() else None

    def __str__(self) -> str:
        return f"{self.host}/{self.pid}/{self.started}/{self.number}"

    def is_mine(self) -> bool:
        """Whether this process holds it."""
        return self.host == socket.gethostname() and self.pid == str(os.getpid()) and self.started == started_ticks(os.getpid())

    def is_dead(self) -> bool:
        """Whether its process is known to be gone; processes of other machines cannot be seen and count as alive."""
        return self.host == socket.gethostname() and started_ticks(int(self.pid)) != self.started


def reap_containers(client: Any, owner: str, in_use: Collection[str] | None = None) -> int:
    """Remove containers of `owner` whose process is gone (on this machine) or whose time is over; how many.

    With `in_use`, containers of this process whose names are not in it go as well. Raises what the engine's client raises.
    """
    removed = 0
    for container in client.containers(all=True, filters={"label": f"{OWNER}={owner}"}):
        labels = container.get("Labels") or {}
        lease, expires = Lease.parsed(labels.get(LEASE, "")), labels.get(EXPIRES, "")
        names = {name.lstrip("/") for name in container.get("Names") or ()}
        unused = in_use is not None and lease is not None and lease.is_mine() and names.isdisjoint(in_use)
        over = not expires.isdigit() or int(expires) < time.time()
        if lease is None or lease.is_dead() or over or unused:
            with suppress(NotFound, APIError):  # another reaper of this owner was faster
                client.remove_container(container["Id"], force=True, v=True)
                removed += 1
    return removed


def sandbox_folder(owner: str, in_use: set[Path]) -> Path:
    """A new folder for one sandbox, added to `in_use` before it exists; its name tells owner and process."""
    pid = os.getpid()
    while True:
        folder = Path(tempfile.gettempdir(), f"{_folder_prefix(owner)}{pid}.{started_ticks(pid)}-{secrets.token_hex(4)}")
        in_use.add(folder)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            continue
        except OSError:
            in_use.discard(folder)
            raise
        return folder


def reap_folders(owner: str, in_use: Collection[Path] | None = None) -> int:
    """Remove the folders of `owner`, and the strays that carry their names, whose process is gone; how many folders.

    With `in_use`, this process's folders that are not in it go as well.
    """
    pattern = re.compile(FOLDER_OF.format(owner=re.escape(_folder_prefix(owner))))
    doomed = []
    for folder in Path(tempfile.gettempdir()).glob(f"{_folder_prefix(owner)}*"):
        named = pattern.fullmatch(folder.name)
        if named is None:
            continue
        mine = int(named["pid"]) == os.getpid()
        dead = started_ticks(int(named["pid"])) != named["started"]
        if dead or (mine and in_use is not None and folder not in in_use):
            doomed.append(folder)
    kill_strays({folder.name for folder in doomed})
    for folder in doomed:
        remove_folder(folder)
    return len(doomed)


def kill_strays(names: Collection[str]) -> int:
    """SIGKILL processes whose environment says that they belong to a sandbox of one of these names; how many were found."""
    markers = {f"{MARKER}={name}".encode() for name in names}
    killed: set[int] = set()
    for _ in range(MAX_ROUNDS if markers else 0):
        found = {entry.pid for entry in live_processes() if entry.pid != os.getpid() and _carries_any(entry.pid, markers)}
        if not found:
            break
        for pid in found:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        killed |= found
        time.sleep(0.002)
    return len(killed)


def remove_folder(folder: Path) -> bool:
    """Remove a sandbox's folder, also where its commands took away permissions or still write; whether it is gone."""
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return True
        for path, _dirs, _files in os.walk(folder):
            with suppress(OSError):
                os.chmod(path, 0o700)
    subprocess.run(["rm", "-rf", "--", str(folder)], check=False, timeout=60)
    return not folder.exists()


def started_ticks(pid: int) -> str:
    """Start time of a process as /proc has it; "" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _folder_prefix(owner: str) -> str:
    return f"swe-master-{re.sub(r'[^A-Za-z0-9_]', '-', owner)}-"


def _carries_any(pid: int, markers: Collection[bytes]) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return not set(markers).isdisjoint(file.read().split(b"\0"))
    except OSError:
        return False
