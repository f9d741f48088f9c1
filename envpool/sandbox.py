"""What a sandbox can do, whatever runs it: the one interface between agent, grader and container engine."""

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class ExecResult:
    """The outcome of one command. `exit_code` is 124 when `timed_out`; `output` is stdout and stderr, invalid UTF-8 replaced."""

    exit_code: int
    output: str
    truncated: bool
    timed_out: bool
    seconds: float


class Sandbox(Protocol):
    """A started, isolated copy of an image with one persistent shell. Every method raises a `SandboxError` when what is
    broken is not the agent's doing; a failing or timed-out command is an `ExecResult`."""

    @property
    def workdir(self) -> str:
        """The repository's root as commands inside see it."""
        ...

    async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
        """Run one command in the persistent shell (cwd and variables are kept); its process group dies at the deadline."""
        ...

    async def read_file(self, path: str, max_bytes: int = 1_048_576) -> bytes:
        """Contents of a file; `path` is absolute or relative to the workdir. FileNotFoundError, IsADirectoryError."""
        ...

    async def write_file(self, path: str, data: bytes) -> None:
        """Replace a file, making parent folders. Paths that leave the sandbox raise PermissionError."""
        ...

    async def put_tar(self, folder: str, chunks: AsyncIterable[bytes], max_bytes: int = 1 << 30) -> None:
        """Unpack an uncompressed tar stream below `folder`, which is made if needed; files of the same names are replaced.
        TransferTooLargeError, PermissionError (a member or the folder leads elsewhere, or is a device), ValueError (no tar)."""
        ...

    def get_tar(self, path: str, max_bytes: int = 1 << 30) -> AsyncIterator[bytes]:
        """A file or folder as a tar stream, its last component the top name; links are kept as links. Unpack it with
        `tar_stream.unpack_tar` only. FileNotFoundError, PermissionError, TransferTooLargeError (while it streams)."""
        ...

    async def close(self) -> None:
        """Remove the sandbox and all it started. Idempotent."""
        ...


class SandboxBackend(Protocol):
    """Starts sandboxes of one kind."""

    async def start(self, image: str, workdir: str) -> Sandbox:
        """A fresh sandbox with the image's tree at `workdir`. Raises SandboxStartError, ImageMissingError."""
        ...

    async def close(self) -> None:
        """Remove everything this backend started."""
        ...
