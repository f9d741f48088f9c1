"""Sandboxes as processes of this machine: in bubblewrap's namespaces where that works, else without isolation.

With bubblewrap a sandbox has user, pid, mount, network, IPC and UTS namespaces of its own, no capability, no network, its own
copy of the image's folder, /tmp and a small /dev/shm; all else that it sees is read-only. Control groups bound its memory,
processes and CPU where this process may make them (usually as root).

What it does not isolate: the kernel is shared and no system-call filter is applied; the machine's programs and libraries under
/usr can be read; the disk is shared and only a single file's size is bounded; without control groups memory is bounded per
process only and the number of processes not at all. Without bubblewrap nothing is isolated: a command is a process of this
user. For code that must be held back take sandbox.backend=docker, on gVisor where the engine has it (docs/sandboxes.md).
"""

import asyncio
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterable, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

from configs.sandbox_config import SandboxConfig
from envpool.sandbox import ExecResult
from envpool.sandbox_errors import SandboxError, SandboxLostError, SandboxStartError, SandboxUnavailableError
from envpool.sandbox_parts.contained_path import ContainedPaths
from envpool.sandbox_parts.control_groups import ControlGroup, GroupLimits, limited_controllers, remove_empty_groups
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandbox_parts.local_shell import MARKER, LocalShell
from envpool.sandbox_parts.sandbox_reaper import reap_folders, remove_folder, sandbox_folder
from envpool.sandbox_parts.shell_session import FLOOD_BYTES, ShellSession
from envpool.sandbox_parts.tar_stream import MAX_TAR_BYTES, chunks_of, get_members, put_members, spooled

logger = logging.getLogger(__name__)

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHM_BYTES = 64 << 20
SYSTEM_FILES = ("/etc/alternatives", "/etc/passwd", "/etc/group", "/etc/ld.so.cache", "/etc/nsswitch.conf", "/etc/localtime")


@cache
def interpreter_root() -> str | None:
    """Where this Python is installed, when the system's folders hold no python3 that a sandbox could use."""
    return None if shutil.which("python3", path=SYSTEM_PATH) else sys.base_prefix


@cache
def environment() -> tuple[tuple[str, str], ...]:
    """All that a sandbox's shell finds in its environment, HOME apart."""
    root = interpreter_root()
    path = SYSTEM_PATH if root is None else f"{SYSTEM_PATH}:{root}/bin"
    return (("PATH", path), ("LANG", "C.UTF-8"), ("PYTHONDONTWRITEBYTECODE", "1"))


@cache
def shell_command() -> tuple[str, ...]:
    """bash without start-up files where there is one, else sh."""
    bash = shutil.which("bash", path=SYSTEM_PATH)
    return (bash, "--norc", "--noprofile") if bash else ("/bin/sh",)


@cache
def bubblewrap_options() -> tuple[str, ...]:
    """The options that are the same for every sandbox: namespaces, environment, read-only system folders."""
    options = ["--die-with-parent", "--new-session", "--cap-drop", "ALL", *user_namespace_options(), "--unshare-pid"]
    options += ["--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--clearenv"]
    options += ["--setenv", "HOME", "/tmp"]
    for name, value in environment():
        options += ["--setenv", name, value]
    for folder in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(folder):
            options += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            options += ["--ro-bind", folder, folder]
    for name in SYSTEM_FILES:
        options += ["--ro-bind-try", name, name]
    root = interpreter_root()
    options += [*(("--ro-bind", root, root) if root else ()), "--proc", "/proc", "--dev", "/dev"]
    for path in machine_wide_proc():
        options += ["--ro-bind-try", path, path]
    if bubblewrap_knows("--size"):
        options += ["--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"]
    return (*options, "--remount-ro", "/dev")


@cache
def machine_wide_proc() -> tuple[str, ...]:
    """Entries of /proc that belong to no process and that their owner may write.

    Started by root, a sandbox's root is this machine's root without capabilities, and /proc/sys asks for the owner only: what is
    not covered here could be changed for the whole machine (core_pattern runs a program as root). bwrap 0.8 leaves them open.
    """
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() and not entry.is_symlink():
            with suppress(OSError):
                status = entry.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode) or status.st_mode & 0o222:
                    found.append(entry.path)
    return tuple(sorted(found))


@cache
def bubblewrap_knows(option: str) -> bool:
    """Whether this version of bwrap has an option."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["bwrap", "--help"], capture_output=True, text=True, timeout=20, check=False)
        return option in done.stdout.split()
    return False


@cache
def user_namespace_options() -> tuple[str, ...]:
    """A user namespace in which no other can be made, where kernel and version allow it."""
    strict = ("--unshare-user", "--disable-userns")
    if bubblewrap_knows("--disable-userns"):
        with suppress(OSError, subprocess.SubprocessError):
            if subprocess.run(["bwrap", *strict, "--ro-bind", "/", "/", "true"], capture_output=True, timeout=20).returncode == 0:
                return strict
    return ("--unshare-user-try",)


def bubblewrap_command(tree: Path, tmp: Path, workdir: str) -> list[str]:
    """bwrap and its options for one sandbox: `tree` at `workdir` and `tmp` at /tmp are all that can be written."""
    bwrap = shutil.which("bwrap") or "bwrap"
    places = ["--bind", str(tmp), "/tmp", "--bind", str(tree), workdir, "--remount-ro", "/", "--chdir", workdir]
    return [bwrap, *bubblewrap_options(), *places]


@cache
def bubblewrap_works() -> bool:
    """Whether bwrap is installed and may make namespaces here; tried once per process."""
    if shutil.which("bwrap") is None:
        return False
    folder = Path(tempfile.gettempdir())  # nothing is written there
    probe = [*bubblewrap_command(folder, folder, "/testbed"), "sh", "-c", "exit 7"]
    try:
        return subprocess.run(probe, capture_output=True, timeout=20, check=False).returncode == 7
    except (OSError, subprocess.TimeoutExpired):
        return False


@cache
def warn_plain() -> None:
    """Say once per process that nothing is isolated."""
    logger.warning(
        "the process sandbox does not isolate here: commands run as this user, with the network and all files in reach; "
        "install bubblewrap or set sandbox.backend=docker for code that you do not trust"
    )


@cache
def warn_unlimited(limited: tuple[str, ...]) -> None:
    """Say once per process what no control group bounds."""
    logger.warning(
        "process sandboxes: control groups bound %s here; memory is bounded per process, and commands may start any number of "
        "processes (run as root, or delegate a control group)",
        ", ".join(limited) or "nothing",
    )


class ProcessSandbox:
    """One copy of an image's tree with a shell in it. `folder` is private to it and holds `tree` and `tmp`.

    Without isolation, commands see the tree where it lies; the workdir's name in a command and the tree's path in its output
    are exchanged, so that `cat /testbed/a.py` works in both forms.
    """

    def __init__(
        self, folder: Path, workdir: str, isolated: bool, prelude: str, held: set[Path], flood_bytes: int = FLOOD_BYTES
    ) -> None:
        self._folder, self._workdir, self._isolated = folder, workdir, isolated
        self._paths = ContainedPaths(workdir, {workdir: folder / "tree", "/tmp": folder / "tmp"})
        first_cwd = workdir if isolated else str(folder / "tree")
        self._session = ShellSession(self._open_shell, first_cwd, prelude, flood_bytes)
        self._workdir_in_text = re.compile(rf"(?<![\w./-]){re.escape(workdir)}(?![\w-])")
        self._closing = asyncio.Lock()
        self._group = ControlGroup(folder.name)
        self._held = held  # folders that the reaper leaves alone
        self._filling: asyncio.Future[None] | None = None
        self.closed = False

    @property
    def workdir(self) -> str:
        return self._workdir

    async def open(self, source: Path, limits: GroupLimits) -> None:
        """Copy the image's folder and start the shell within `limits`."""
        copying = asyncio.to_thread(copy_tree, source, self._folder / "tree", lambda: self.closed)
        self._filling = asyncio.ensure_future(copying)
        await asyncio.shield(self._filling)
        self._check_open()
        (self._folder / "tmp").mkdir()
        self._group.make(limits)
        await self._session.open()

    async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
        self._check_open()
        tree = str(self._folder / "tree")
        if not self._isolated:
            command = self._workdir_in_text.sub(lambda _: tree, command)
        try:
            result = (await self._session.run(command, timeout_s, max_output_bytes)).decoded()
        except OSError as error:
            if isinstance(error, SandboxError):
                raise
            raise SandboxLostError(f"the shell in {self._folder} broke: {error}") from error
        if self._isolated:
            return result
        output = result.output.replace(tree, self._workdir)
        return ExecResult(result.exit_code, output, result.truncated, result.timed_out, result.seconds)

    async def read_file(self, path: str, max_bytes: int = 1_048_576) -> bytes:
        self._check_open()
        with os.fdopen(self._paths.open(path, os.O_RDONLY), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if stat.S_ISDIR(mode):
                raise IsADirectoryError(f"{path} is a directory")
            if not stat.S_ISREG(mode):
                raise PermissionError(f"{path} is not a regular file")
            return file.read(max_bytes)

    async def write_file(self, path: str, data: bytes) -> None:
        self._check_open()
        descriptor = self._paths.open(path, os.O_WRONLY | os.O_CREAT, make_parents=True)
        with os.fdopen(descriptor, "wb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise PermissionError(f"{path} is not a regular file")
            os.ftruncate(descriptor, 0)
            file.write(data)

    async def put_tar(self, folder: str, chunks: AsyncIterable[bytes], max_bytes: int = MAX_TAR_BYTES) -> None:
        self._check_open()
        with await spooled(chunks, max_bytes) as file:
            await asyncio.to_thread(put_members, self._paths, folder, file)

    async def get_tar(self, path: str, max_bytes: int = MAX_TAR_BYTES) -> AsyncIterator[bytes]:
        self._check_open()
        async for chunk in chunks_of(lambda file: get_members(self._paths, path, file, max_bytes)):
            yield chunk

    async def close(self) -> None:
        self.closed = True  # a copying thread stops at its next file
        async with self._closing:
            if self._filling is not None:
                await asyncio.wait([self._filling])
            try:
                await self._session.close()
            except OSError as error:
                if isinstance(error, SandboxError):
                    raise
                logger.warning("the shell in %s could not be ended: %s", self._folder, error)
            finally:
                await asyncio.to_thread(remove_tree, self._folder)
                self._group.remove()
                self._held.discard(self._folder)

    def _check_open(self) -> None:
        if self.closed:
            raise SandboxLostError("the sandbox is closed")

    async def _open_shell(self) -> LocalShell:
        tree, tmp = self._folder / "tree", self._folder / "tmp"
        try:
            if self._isolated:
                command = [*bubblewrap_command(tree, tmp, self._workdir), *shell_command()]
                return await LocalShell.start(self._group.joined(command), tree, {}, marker=None)
            marker = self._folder.name
            variables = {**dict(environment()), "HOME": str(tmp), "TMPDIR": str(tmp), MARKER: marker}
            return await LocalShell.start(self._group.joined(list(shell_command())), tree, variables, marker)
        except OSError as error:
            raise SandboxLostError(f"no shell can be started in {self._folder}: {error}") from error


class ProcessBackend:
    """Starts process sandboxes; `isolation` auto takes bubblewrap where it works. Their folders carry the owner's name."""

    has_engine = False

    def __init__(self, config: SandboxConfig, images: FolderImages, owner: str) -> None:
        self._config, self._images, self._owner = config, images, re.sub(r"\W", "-", owner)
        self._open: set[ProcessSandbox] = set()
        self._folders: set[Path] = set()
        self._isolated: bool | None = None
        self._sweeper = ThreadPoolExecutor(1, thread_name_prefix="sweep")  # all copies and removals share the loop's own threads
        if config.isolation not in ("auto", "bubblewrap", "none"):
            raise ValueError(f"sandbox.isolation={config.isolation!r}: use auto, bubblewrap or none")

    async def start(self, image: str, workdir: str) -> ProcessSandbox:
        """A fresh copy of a `folder:` image. ImageMissingError, SandboxStartError; SandboxUnavailableError without bwrap."""
        if self._isolated is None:
            self._isolated = await asyncio.to_thread(self._choose_isolation)
            await asyncio.to_thread(reap_folders, self._owner)
            # A group is named as the folder that was there before it; another living worker of this name may be starting one.
            remove_empty_groups(f"swe-master-{self._owner}-", lambda name: Path(tempfile.gettempdir(), name).exists())
        source = self._images.path(image)
        folder = sandbox_folder(self._owner, self._folders)
        sandbox = ProcessSandbox(folder, workdir, self._isolated, self._prelude(), self._folders, self._config.flood_mib << 20)
        self._open.add(sandbox)
        try:
            async with asyncio.timeout(self._config.start_timeout_s):
                config = self._config
                await sandbox.open(source, GroupLimits(config.memory_mib, config.pids, config.cpus))
        except BaseException as error:
            await self._discard(sandbox)
            if isinstance(error, TimeoutError | OSError) and not isinstance(error, SandboxError):
                raise SandboxStartError(
                    f"cannot start a sandbox from {image} in {folder}: {error or 'deadline passed'}"
                ) from error
            raise
        self._open = {known for known in self._open if not known.closed}
        return sandbox

    async def sweep(self) -> int:
        """Remove folders of this owner that nobody holds, with the strays that carry their names; how many."""
        return await asyncio.get_running_loop().run_in_executor(self._sweeper, reap_folders, self._owner, self._folders)

    async def close(self) -> None:
        self._sweeper.shutdown(wait=False)
        for sandbox in list(self._open):
            await self._discard(sandbox)
        for folder in list(self._folders):
            if folder.exists():
                await asyncio.to_thread(remove_tree, folder)

    async def _discard(self, sandbox: ProcessSandbox) -> None:
        await asyncio.shield(asyncio.ensure_future(sandbox.close()))
        self._open.discard(sandbox)

    def _choose_isolation(self) -> bool:
        wanted = self._config.isolation
        isolated = wanted != "none" and bubblewrap_works()
        if wanted == "bubblewrap" and not isolated:
            raise SandboxUnavailableError("sandbox.isolation=bubblewrap, but bwrap is missing or may not make namespaces here")
        if not isolated:
            warn_plain()
        elif len(limited_controllers()) < 3:
            warn_unlimited(limited_controllers())
        return isolated

    def _prelude(self) -> str:
        # RLIMIT_DATA: private memory of one process. RLIMIT_NPROC counts a whole user, so it is left alone.
        # -f counts blocks of 512 bytes in sh and of 1024 in bash: sh is twice as strict.
        memory_kib, file_kib = self._config.memory_mib * 1024, self._config.max_file_mib * 1024
        return f"ulimit -c 0; ulimit -d {memory_kib} 2>/dev/null; ulimit -f {file_kib} 2>/dev/null || :"


class _CopyStoppedError(Exception):
    """No OSError: copytree would collect it and go on."""


def copy_tree(source: Path, target: Path, stopped: Callable[[], bool]) -> None:
    """Copy with times, modes and symlinks, a few milliseconds for a small tree. Ends before the next file once `stopped`."""

    def copy_file(file: str, to: str) -> None:
        if stopped():
            raise _CopyStoppedError
        shutil.copy2(file, to)

    with suppress(_CopyStoppedError):
        shutil.copytree(source, target, symlinks=True, copy_function=copy_file)


def remove_tree(folder: Path) -> None:
    """Remove a sandbox's folder whatever its commands did to it; what cannot be removed is logged."""
    if not remove_folder(folder):
        logger.warning("cannot remove the sandbox folder %s", folder)
