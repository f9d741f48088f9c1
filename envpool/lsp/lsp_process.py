"""A language server as a process of this machine that can do no harm: it reads code that nobody has checked.

Under bubblewrap it has no network, its own process namespace, no capabilities, the system's folders and the mirror of the
sandbox's files read-only, and one writable scratch folder. Resource limits bound files and CPU time; a watch bounds memory
and the number of processes.
"""

import asyncio
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from envpool.lsp.language_server import Launch
from envpool.lsp.lsp_errors import ServerEndedError
from envpool.sandbox_parts.local_shell import MARKER, LocalShell
from envpool.sandbox_parts.process_tree import children_of, descendants, live_processes
from envpool.sandboxes.process_sandbox import bubblewrap_options

SCRATCH = "/tmp"
WATCH_S = 0.5
MAX_PROCESSES = 64
MAX_FILE_MIB = 512
MAX_CPU_S = 3600
MAX_OPEN_FILES = 8192
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
_LIMITS = (
    f'ulimit -c 0; ulimit -f {MAX_FILE_MIB * 2048}; ulimit -t {MAX_CPU_S}; ulimit -n {MAX_OPEN_FILES} 2>/dev/null; exec "$@"'
)


@dataclass(frozen=True)
class ServerPlace:
    """Where a server lives. `root` is the project's folder as the server sees it, `scratch` its writable folder likewise;
    `tree` and `writable` are those two on this machine."""

    isolated: bool
    tree: Path
    writable: Path
    workdir: str

    @property
    def root(self) -> str:
        return self.workdir if self.isolated else str(self.tree)

    @property
    def scratch(self) -> str:
        return SCRATCH if self.isolated else str(self.writable)


def server_command(launch: Launch, place: ServerPlace) -> list[str]:
    """The whole command line, limits and isolation included."""
    limited = ["/bin/sh", "-c", _LIMITS, "sh", *launch.argv]
    if not place.isolated:
        return limited
    command = [shutil.which("bwrap") or "bwrap", *bubblewrap_options()]
    for name, value in server_environment(launch, place.scratch).items():
        command += ["--setenv", name, value]
    command += ["--bind", str(place.writable), place.scratch]  # first: a server's own folders may lie below /tmp
    for folder in launch.folders:
        if not folder.startswith("/usr/"):
            command += ["--ro-bind", folder, folder]
    command += ["--ro-bind", str(place.tree), place.workdir]
    return [*command, "--chdir", place.workdir, "--", *limited]


def server_environment(launch: Launch, scratch: str) -> Mapping[str, str]:
    """All that a server finds in its environment."""
    found = {"PATH": SYSTEM_PATH, "LANG": "C.UTF-8", "HOME": scratch, "TMPDIR": scratch, "XDG_CACHE_HOME": f"{scratch}/cache"}
    return {**found, **launch.environment}


class ServerProcess:
    """A started server, as the stream that an LspClient wants. `killed_because` says why the watch ended it, else ""."""

    def __init__(self, shell: LocalShell, memory_mib: int) -> None:
        self._shell, self._memory_mib = shell, memory_mib
        self._pid = shell._process.pid
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        self.killed_because = ""

    @classmethod
    async def start(cls, launch: Launch, place: ServerPlace, memory_mib: int) -> "ServerProcess":
        """ServerEndedError when the program cannot be started."""
        marker = None if place.isolated else place.writable.parent.name
        environment = {} if marker is None else {**server_environment(launch, place.scratch), MARKER: marker}
        try:
            shell = await LocalShell.start(server_command(launch, place), place.tree, environment, marker)
        except OSError as error:
            raise ServerEndedError(f"{launch.argv[0]} cannot be started: {error}") from error
        return cls(shell, memory_mib)

    @property
    def pid(self) -> int:
        """The first process: bubblewrap, or the server itself."""
        return self._pid

    async def read(self) -> bytes:
        return await self._shell.read()

    async def read_control(self) -> bytes:
        return await self._shell.read_control()

    async def write(self, data: bytes) -> None:
        await self._shell.write(data)

    async def end(self) -> int:
        self._watching.cancel()
        return await self._shell.end()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            count, resident_mib = tree_size(self._pid)
            if resident_mib > self._memory_mib:
                self.killed_because = f"it held {resident_mib} MiB, over lsp.memory_mib={self._memory_mib}"
            elif count > MAX_PROCESSES:
                self.killed_because = f"it ran {count} processes, over the limit of {MAX_PROCESSES}"
            if self.killed_because:
                await self._shell.end()
                return


def tree_size(root: int) -> tuple[int, int]:
    """Number of processes below and including `root`, and the resident memory of all in MiB; some hundred microseconds."""
    found: list[int] = []
    todo = [root]
    while todo and len(found) <= 4 * MAX_PROCESSES:
        pid = todo.pop()
        found.append(pid)
        todo += children_of(pid)
    return len(found), sum(_resident_pages(pid) for pid in found) * PAGE_BYTES >> 20


def processes_of(root: int) -> list[int]:
    """All processes below and including `root`."""
    return [root, *(entry.pid for entry in descendants(root, live_processes()))]


def _resident_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
