"""A sandbox in the hands of one user, for as long as the lease runs."""

import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

from envpool.sandbox import ExecResult, Sandbox
from envpool.sandbox_errors import DiskFullError, EngineLostError, SandboxError, SandboxLostError, means_disk_full

Diagnose = Callable[[SandboxLostError], Awaitable[SandboxLostError]]


class LeasedSandbox:
    """Every call raises the same SandboxLostError once the sandbox is lost or taken back; `lost` is that error, else None.

    `diagnose` may name a deeper cause of the first loss (the engine is gone, not one sandbox). `on_command` is told the seconds
    of every command.
    """

    def __init__(self, sandbox: Sandbox, diagnose: Diagnose, on_command: Callable[[float], None]) -> None:
        self._sandbox, self._diagnose, self._on_command = sandbox, diagnose, on_command
        self.lost: SandboxLostError | None = None
        self._given_back = False

    @property
    def workdir(self) -> str:
        return self._sandbox.workdir

    async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
        self._check()
        began = time.monotonic()
        try:
            result = await self._sandbox.run(command, timeout_s, max_output_bytes)
        except SandboxLostError as error:
            raise await self._as_lost(error) from error
        self._on_command(time.monotonic() - began)
        return result

    async def read_file(self, path: str, max_bytes: int = 1_048_576) -> bytes:
        self._check()
        try:
            return await self._sandbox.read_file(path, max_bytes)
        except SandboxLostError as error:
            raise await self._as_lost(error) from error

    async def write_file(self, path: str, data: bytes) -> None:
        self._check()
        try:
            await self._sandbox.write_file(path, data)
        except SandboxLostError as error:
            raise await self._as_lost(error) from error
        except OSError as error:
            if isinstance(error, SandboxError) or not means_disk_full(error):
                raise
            raise DiskFullError(f"{path} cannot be written: no space is left where sandboxes lie; free some") from error

    async def put_tar(self, folder: str, chunks: AsyncIterable[bytes], max_bytes: int = 1 << 30) -> None:
        self._check()
        try:
            await self._sandbox.put_tar(folder, chunks, max_bytes)
        except SandboxLostError as error:
            raise await self._as_lost(error) from error

    async def get_tar(self, path: str, max_bytes: int = 1 << 30) -> AsyncIterator[bytes]:
        self._check()
        try:
            async for chunk in self._sandbox.get_tar(path, max_bytes):
                yield chunk
        except SandboxLostError as error:
            raise await self._as_lost(error) from error

    def take_back(self, why: SandboxLostError) -> None:
        """From now on every call raises `why`, or what was the cause of an earlier loss."""
        self.lost = self.lost or why

    async def close(self) -> None:
        self._given_back = True
        await self._sandbox.close()

    def _check(self) -> None:
        if self.lost is not None:
            raise _again(self.lost)
        if self._given_back:
            raise SandboxLostError("the sandbox was given back")

    async def _as_lost(self, error: SandboxLostError) -> SandboxLostError:
        if self.lost is None:
            found = error if isinstance(error, EngineLostError) else await self._diagnose(error)
            self.take_back(found)
        assert self.lost is not None
        return _again(self.lost)


def _again(error: SandboxLostError) -> SandboxLostError:
    """A fresh exception of the same kind: raising one object twice would mix tracebacks."""
    return type(error)(str(error))
