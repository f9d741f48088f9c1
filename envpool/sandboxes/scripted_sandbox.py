"""A sandbox for tests: files in memory, commands answered from a script. It fails loudly when the script has no answer."""

import io
import posixpath
import tarfile
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence

from configs.sandbox_config import SandboxConfig
from envpool.sandbox import ExecResult
from envpool.sandbox_errors import SandboxLostError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandbox_parts.tar_stream import MAX_TAR_BYTES, bounded, checked_members, one_chunk, spooled

Script = Mapping[str, ExecResult | Sequence[ExecResult]] | Callable[[str], ExecResult]


def said(output: str, exit_code: int = 0) -> ExecResult:
    """A plain result for scripts.

    >>> said("passed\\n").exit_code
    0
    """
    return ExecResult(exit_code, output, truncated=False, timed_out=False, seconds=0.0)


class ScriptEndedError(AssertionError):
    """A command came that the script does not answer."""


class ScriptedSandbox:
    """`files` maps absolute paths to contents. `script` maps a command to its result, or to results used up in order, or is
    called with the command. `commands` records what was run. `die_after` commands every call raises SandboxLostError."""

    def __init__(self, files: Mapping[str, str], script: Script, workdir: str = "/testbed", die_after: int | None = None) -> None:
        self.files = {path: text.encode() for path, text in files.items()}
        self.commands: list[str] = []
        self.closed = False
        self._script, self._workdir, self._die_after = script, workdir, die_after
        self._used: dict[str, int] = {}

    @property
    def workdir(self) -> str:
        return self._workdir

    async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
        self._check_open()
        self.commands.append(command)
        if callable(self._script):
            return self._script(command)
        if command not in self._script:
            raise ScriptEndedError(f"the script has no answer to command {len(self.commands)}: {command!r}")
        answer = self._script[command]
        if isinstance(answer, ExecResult):
            return answer
        used = self._used.get(command, 0)
        if used == len(answer):
            raise ScriptEndedError(f"the script answers {command!r} only {used} times")
        self._used[command] = used + 1
        return answer[used]

    async def read_file(self, path: str, max_bytes: int = 1_048_576) -> bytes:
        self._check_open()
        full = self._full(path)
        if full in self.files:
            return self.files[full][:max_bytes]
        if any(known.startswith(f"{full}/") for known in self.files):
            raise IsADirectoryError(f"{path} is a directory")
        raise FileNotFoundError(f"{path} does not exist")

    async def write_file(self, path: str, data: bytes) -> None:
        self._check_open()
        full = self._full(path)
        if not full.startswith((f"{self._workdir}/", "/tmp/")):
            raise PermissionError(f"{path} is outside the sandbox's own folders")
        self.files[full] = data

    async def put_tar(self, folder: str, chunks: AsyncIterable[bytes], max_bytes: int = MAX_TAR_BYTES) -> None:
        self._check_open()
        with await spooled(chunks, max_bytes) as file:
            members = checked_members(file)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in members:
                    content = archive.extractfile(member) if member.isreg() else None
                    if content is not None:
                        await self.write_file(f"{folder}/{member.name}", content.read())

    async def get_tar(self, path: str, max_bytes: int = MAX_TAR_BYTES) -> AsyncIterator[bytes]:
        self._check_open()
        full = self._full(path)
        chosen = {known: data for known, data in self.files.items() if known == full or known.startswith(f"{full}/")}
        if not chosen:
            raise FileNotFoundError(f"{path} does not exist")
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for known, data in sorted(chosen.items()):
                member = tarfile.TarInfo(posixpath.basename(full) + known.removeprefix(full))
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        async for chunk in bounded(one_chunk(packed.getvalue()), max_bytes):
            yield chunk

    async def close(self) -> None:
        self.closed = True

    def _full(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(self._workdir, path))

    def _check_open(self) -> None:
        if self.closed:
            raise SandboxLostError("the sandbox is closed")
        if self._die_after is not None and len(self.commands) >= self._die_after:
            raise SandboxLostError(f"the script kills the sandbox after {self._die_after} commands")


class ScriptedBackend:
    """Starts scripted sandboxes with the files of a `folder:` image. `script` answers all of them; empty by default."""

    def __init__(self, config: SandboxConfig, images: FolderImages, owner: str, script: Script | None = None) -> None:
        self._images = images
        self._script: Script = {} if script is None else script
        self.sandboxes: list[ScriptedSandbox] = []

    async def start(self, image: str, workdir: str) -> ScriptedSandbox:
        """A sandbox with the image's text files. ImageMissingError."""
        root = self._images.path(image)
        files = {
            f"{workdir}/{path.relative_to(root)}": path.read_text(encoding="utf-8")
            for path in sorted(root.rglob("*"))
            if path.is_file() and ".git" not in path.relative_to(root).parts
        }
        sandbox = ScriptedSandbox(files, self._script, workdir)
        self.sandboxes.append(sandbox)
        return sandbox

    async def close(self) -> None:
        for sandbox in self.sandboxes:
            await sandbox.close()
