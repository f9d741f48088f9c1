"""Lends sandboxes: a bounded number at once, each for a bounded time."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager

from envpool.sandbox import ExecResult, Sandbox, SandboxBackend
from envpool.sandbox_errors import SandboxError, SandboxLostError, SandboxUnavailableError

logger = logging.getLogger(__name__)

CLOSE_S = 60.0


class LeasedSandbox:
    """A sandbox for as long as its lease runs; afterwards every call raises SandboxLostError."""

    def __init__(self, sandbox: Sandbox, lease_s: float) -> None:
        self._sandbox = sandbox
        self._lease_s = lease_s
        self.lost_reason: str | None = None

    @property
    def workdir(self) -> str:
        return self._sandbox.workdir

    async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
        self._check()
        try:
            return await self._sandbox.run(command, timeout_s, max_output_bytes)
        except SandboxLostError as error:
            raise self._as_lost(error) from error

    async def read_file(self, path: str, max_bytes: int = 1_048_576) -> bytes:
        self._check()
        try:
            return await self._sandbox.read_file(path, max_bytes)
        except SandboxLostError as error:
            raise self._as_lost(error) from error

    async def write_file(self, path: str, data: bytes) -> None:
        self._check()
        try:
            await self._sandbox.write_file(path, data)
        except SandboxLostError as error:
            raise self._as_lost(error) from error

    async def close(self) -> None:
        self.lost_reason = self.lost_reason or "the sandbox was given back"
        await self._sandbox.close()

    def _check(self) -> None:
        if self.lost_reason is not None:
            raise SandboxLostError(self.lost_reason)

    def _as_lost(self, error: SandboxLostError) -> SandboxLostError:
        self.lost_reason = self.lost_reason or str(error)
        return SandboxLostError(self.lost_reason)


class SandboxPool:
    """At most `num_sandboxes` leases at once, first come first served; each ends after `lease_s` seconds.

    Counters: `started` sandboxes, `lost` of them (died or outlived their lease), `active` leases now.
    """

    def __init__(self, backend: SandboxBackend, num_sandboxes: int, lease_s: float) -> None:
        if num_sandboxes < 1 or lease_s <= 0:
            raise ValueError(f"a pool needs num_sandboxes >= 1 and lease_s > 0, not {num_sandboxes} and {lease_s:g}")
        self._backend, self._lease_s = backend, lease_s
        self._slots = asyncio.Semaphore(num_sandboxes)
        self._leases: set[LeasedSandbox] = set()
        self._starting: set[asyncio.Task[Sandbox]] = set()
        self._closed = False
        self.started = self.lost = self.active = 0

    @asynccontextmanager
    async def lease(self, image: str, workdir: str) -> AsyncIterator[Sandbox]:
        """A fresh sandbox, removed at the end. Waits for a free slot; raises what the backend's `start` raises and
        SandboxUnavailableError once the pool is closed."""
        async with self._slots:
            self._check_open()
            self.active += 1
            try:
                sandbox = LeasedSandbox(await self._start(image, workdir), self._lease_s)
                self._leases.add(sandbox)
                expiry = asyncio.create_task(self._expire(sandbox))
                try:
                    self._check_open()
                    yield sandbox
                finally:
                    expiry.cancel()
                    self._leases.discard(sandbox)
                    self.lost += sandbox.lost_reason is not None
                    await _finish(sandbox.close())
            finally:
                self.active -= 1

    async def close(self) -> None:
        """Close every sandbox and the backend; who waits or works gets an error. Idempotent."""
        self._closed = True
        for task in list(self._starting):
            task.cancel()
        for sandbox in list(self._leases):
            sandbox.lost_reason = sandbox.lost_reason or "the sandbox pool was closed"
            await _finish(sandbox.close())
        await _finish(self._backend.close())

    async def _start(self, image: str, workdir: str) -> Sandbox:
        task = asyncio.ensure_future(self._backend.start(image, workdir))
        self._starting.add(task)
        try:
            sandbox = await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if self._closed and caller is not None and not caller.cancelling():
                raise SandboxUnavailableError("the sandbox pool was closed") from None
            raise
        finally:
            self._starting.discard(task)
        self.started += 1
        return sandbox

    async def _expire(self, sandbox: LeasedSandbox) -> None:
        await asyncio.sleep(self._lease_s)
        sandbox.lost_reason = sandbox.lost_reason or f"the sandbox outlived its lease of {self._lease_s:g} s (rollout.lease_s)"
        await _finish(sandbox.close())

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxUnavailableError("the sandbox pool is closed")


async def _finish(closing: Coroutine[None, None, None]) -> None:
    """Run clean-up to its end even when the caller is cancelled meanwhile; a failure is logged, it has no one to repair it."""
    task = asyncio.ensure_future(closing)
    try:
        async with asyncio.timeout(CLOSE_S):
            await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=CLOSE_S)
        raise
    except (SandboxError, OSError) as error:  # TimeoutError is an OSError
        logger.warning("a sandbox could not be removed cleanly: %s", error or "deadline passed")
