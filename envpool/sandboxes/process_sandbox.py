"""Sandboxes as processes of this machine: in bubblewrap's namespaces where that works, else without isolation."""

import asyncio
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from configs.sandbox_config import SandboxConfig
from envpool.contained_path import ContainedPaths
from envpool.image_cache import FolderImages
from envpool.local_shell import MARKER, LocalShell
from envpool.sandbox import ExecResult
from envpool.sandbox_errors import SandboxError, SandboxLostError, SandboxStartError, SandboxUnavailableError
from envpool.sandbox_reaper import reap_folders, remove_folder, sandbox_folder
from envpool.shell_session import ShellSession

logger = logging.getLogger(__name__)

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEM_FILES = ("/etc/alternatives", "/etc/passwd", "/etc/group", "/etc/ld.so.cache", "/etc/nsswitch.conf", "/etc/localtime")


@cache
def interpreter_root() -> str | None:
    """Where this Python is installed, when the system's folders hold no python3 that a sandbox could use."""
    return None if shutil.which("python3", path=SYSTEM_PATH) else sys.base_prefix


@cache
def environment() -> tuple[tuple[str, str], ...]:
    """All that a sandbox's shell finds in its environment, HOME apart."""
    root = interpreter_root()
    return (("PATH", SYSTEM_PATH if root is None else f"{SYSTEM_PATH}:{root}/bin"), ("LANG", "C.UTF-8"))


@cache
def shell_command() -> tuple[str, ...]:
    """bash without start-up files where there is one, else sh."""
    bash = shutil.which("bash", path=SYSTEM_PATH)
    return (bash, "--norc", "--noprofile") if bash else ("/bin/sh",)


@cache
def bubblewrap_options() -> tuple[str, ...]:
    """The options that are the same for every sandbox: namespaces, environment, read-only system folders."""
    options = ["--die-with-parent", "--new-session", "--cap-drop", "ALL", "--unshare-user-try", "--unshare-pid"]
    options += ["--unshare-net", "--unshare-ipc", "--unshare-uts", "--clearenv", "--setenv", "HOME", "/tmp"]
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
    return (*options, *(("--ro-bind", root, root) if root else ()), "--proc", "/proc", "--dev", "/dev")


def bubblewrap_command(tree: Path, tmp: Path, workdir: str) -> list[str]:
    """bwrap and its options for one sandbox: `tree` at `workdir` and `tmp` at /tmp are all that can be written."""
    bwrap = shutil.which("bwrap") or "bwrap"
    return [bwrap, *bubblewrap_options(), "--bind", str(tmp), "/tmp", "--bind", str(tree), workdir, "--chdir", workdir]


@cache
def bubblewrap_works() -> bool:
    """Whether bwrap is installed and may make namespaces here; tried once per process."""
    if shutil.which("bwrap") is None:
        return False
    with tempfile.TemporaryDirectory(prefix="swe-master-probe-") as folder:
        probe = [*bubblewrap_command(Path(folder), Path(folder), "/testbed"), "sh", "-c", "exit 7"]
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


class ProcessSandbox:
    """One copy of an image's tree with a shell in it. `folder` is private to it and holds `tree` and `tmp`.

    Without isolation, commands see the tree where it lies; the workdir's name in a command and the tree's path in its output
    are exchanged, so that `cat /testbed/a.py` works in both forms.
    """

    def __init__(self, folder: Path, workdir: str, isolated: bool, prelude: str, held: set[Path]) -> None:
        self._folder, self._workdir, self._isolated = folder, workdir, isolated
        self._paths = ContainedPaths(workdir, {workdir: folder / "tree", "/tmp": folder / "tmp"})
        self._session = ShellSession(self._open_shell, workdir if isolated else str(folder / "tree"), prelude)
        self._workdir_in_text = re.compile(rf"(?<![\w./-]){re.escape(workdir)}(?![\w-])")
        self._closing = asyncio.Lock()
        self._held = held  # folders that the reaper leaves alone
        self.closed = False

    @property
    def workdir(self) -> str:
        return self._workdir

    async def open(self) -> None:
        """Start the shell."""
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

    async def close(self) -> None:
        self.closed = True
        async with self._closing:
            try:
                await self._session.close()
            except OSError as error:
                if isinstance(error, SandboxError):
                    raise
                logger.warning("the shell in %s could not be ended: %s", self._folder, error)
            finally:
                await asyncio.to_thread(remove_tree, self._folder)
                self._held.discard(self._folder)

    def _check_open(self) -> None:
        if self.closed:
            raise SandboxLostError("the sandbox is closed")

    async def _open_shell(self) -> LocalShell:
        tree, tmp = self._folder / "tree", self._folder / "tmp"
        try:
            if self._isolated:
                command = [*bubblewrap_command(tree, tmp, self._workdir), *shell_command()]
                return await LocalShell.start(command, tree, {}, marker=None)
            marker = self._folder.name
            variables = {**dict(environment()), "HOME": str(tmp), "TMPDIR": str(tmp), MARKER: marker}
            return await LocalShell.start(list(shell_command()), tree, variables, marker)
        except OSError as error:
            raise SandboxLostError(f"no shell can be started in {self._folder}: {error}") from error


class ProcessBackend:
    """Starts process sandboxes; `isolation` auto takes bubblewrap where it works. Their folders carry the owner's name."""

    def __init__(self, config: SandboxConfig, images: FolderImages, owner: str) -> None:
        self._config, self._images, self._owner = config, images, re.sub(r"\W", "-", owner)
        self._open: set[ProcessSandbox] = set()
        self._folders: set[Path] = set()
        self._isolated: bool | None = None
        if config.isolation not in ("auto", "bubblewrap", "none"):
            raise ValueError(f"sandbox.isolation={config.isolation!r}: use auto, bubblewrap or none")

    async def start(self, image: str, workdir: str) -> ProcessSandbox:
        """A fresh copy of a `folder:` image. ImageMissingError, SandboxStartError; SandboxUnavailableError without bwrap."""
        if self._isolated is None:
            self._isolated = await asyncio.to_thread(self._choose_isolation)
            await asyncio.to_thread(reap_folders, self._owner)
        source = self._images.path(image)
        folder = sandbox_folder(self._owner, self._folders)
        sandbox = ProcessSandbox(folder, workdir, self._isolated, self._prelude(), self._folders)
        self._open.add(sandbox)
        try:
            async with asyncio.timeout(self._config.start_timeout_s):
                await asyncio.to_thread(copy_tree, source, folder / "tree")
                (folder / "tmp").mkdir()
                await sandbox.open()
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
        return await asyncio.to_thread(reap_folders, self._owner, self._folders)

    async def close(self) -> None:
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
        return isolated

    def _prelude(self) -> str:
        # RLIMIT_DATA: private memory of one process. RLIMIT_NPROC counts a whole user, so it is left alone.
        return f"ulimit -c 0; ulimit -d {self._config.memory_mib * 1024} 2>/dev/null || :"


def copy_tree(source: Path, target: Path) -> None:
    """Copy with times, modes and symlinks, a few milliseconds for a small tree."""
    shutil.copytree(source, target, symlinks=True)


def remove_tree(folder: Path) -> None:
    """Remove a sandbox's folder whatever its commands did to it; what cannot be removed is logged."""
    if not remove_folder(folder):
        logger.warning("cannot remove the sandbox folder %s", folder)
