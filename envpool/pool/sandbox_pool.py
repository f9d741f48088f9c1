"""Lends sandboxes: a bounded number at once, in turn, each for a bounded time, some started ahead; what is left is swept up."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Protocol, runtime_checkable

from envpool.pool.fair_slots import FairSlots
from envpool.pool.leased_sandbox import LeasedSandbox
from envpool.pool.seconds_histogram import SecondsHistogram
from envpool.pool.warm_sandboxes import WarmSandboxes
from envpool.sandbox import Sandbox, SandboxBackend
from envpool.sandbox_errors import (
    DiskFullError,
    EngineLostError,
    LeaseExpiredError,
    SandboxError,
    SandboxLostError,
    SandboxStartError,
    SandboxUnavailableError,
    means_disk_full,
)

logger = logging.getLogger(__name__)

CLOSE_S = 60.0
SWEEP_S = 20.0
"""An engine that needs longer to say what runs on it does not answer."""
DIAGNOSE_S = 5.0
SWEEPS_FAILED = 2
"""So many sweeps in a row must fail before every lease is given up."""
RECOVER_S = 60.0
"""How long a new lease waits for an engine that is away."""


@runtime_checkable
class SweepingBackend(Protocol):
    """A backend that can clean up behind itself. With `has_engine`, a sweep that fails means that its engine is away; without,
    a late sweep says nothing about the sandboxes."""

    has_engine: bool

    async def sweep(self) -> int:
        """Remove what no living sandbox of this backend holds and what dead processes of the same owner left; how many.

        Raises SandboxUnavailableError when the engine does not answer.
        """
        ...


class SandboxPool:
    """At most `num_sandboxes` leases at once; each ends after `lease_s` seconds. At most `num_warm` more sandboxes wait, unused.

    Every `watch_s` seconds the backend sweeps up what was left behind; when it has an engine that does not answer, running leases
    fail with EngineLostError and new ones wait up to `recover_s` seconds for it.
    Counters: `started` sandboxes, `lost` of them (died or outlived their lease), `active` leases now, `warm_hits` leases
    that found a warm sandbox, `swept` leftovers, `engine_losses` times that the engine went away. `start_s` and `exec_s` count
    the seconds of sandbox starts and of commands in leased ones.
    """

    def __init__(
        self,
        backend: SandboxBackend,
        num_sandboxes: int,
        lease_s: float,
        *,
        num_warm: int = 0,
        watch_s: float = 5.0,
        recover_s: float = RECOVER_S,
    ) -> None:
        if num_sandboxes < 1 or lease_s <= 0:
            raise ValueError(f"a pool needs num_sandboxes >= 1 and lease_s > 0, not {num_sandboxes} and {lease_s:g}")
        if num_warm < 0 or watch_s <= 0:
            raise ValueError(f"a pool needs num_warm >= 0 and watch_s > 0, not {num_warm} and {watch_s:g}")
        self._backend, self._lease_s, self._watch_s, self._recover_s = backend, lease_s, watch_s, recover_s
        self._slots = FairSlots(num_sandboxes)
        self._warm = WarmSandboxes(self._start, _finish_sandbox, num_warm, lease_s)
        self._leases: set[LeasedSandbox] = set()
        self._starting: set[asyncio.Task[Sandbox]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[None] | None = None
        self._engine_back = asyncio.Event()
        self._engine_back.set()
        self._down_because = ""
        self._closed = False
        self.start_s, self.exec_s = SecondsHistogram(), SecondsHistogram()
        self.started = self.lost = self.active = self.warm_hits = self.swept = self.engine_losses = 0

    @property
    def engine_is_down(self) -> bool:
        """Whether the engine did not answer when it was last asked."""
        return not self._engine_back.is_set()

    @property
    def num_warm_ready(self) -> int:
        """Sandboxes started ahead that wait for a lease."""
        return self._warm.num_ready

    def prefetch(self, image: str, workdir: str, count: int = 1) -> None:
        """`count` leases of this image come soon: start that many ahead, as far as there is room. Call it in the event loop."""
        if not self._closed and not self.engine_is_down:
            self._watch()
            self._warm.hint(image, workdir, count)

    async def sweep(self) -> None:
        """Remove what dead processes of this owner left, now; a worker does so when it starts. An engine that is away is only
        logged: who then asks for a sandbox is told."""
        if isinstance(self._backend, SweepingBackend):
            try:
                async with asyncio.timeout(SWEEP_S):
                    self.swept += await self._backend.sweep()
            except (SandboxUnavailableError, TimeoutError) as error:
                logger.warning("nothing can be swept up: %s", error or f"no answer within {SWEEP_S:g} s")

    @asynccontextmanager
    async def lease(self, image: str, workdir: str, group: str = "") -> AsyncIterator[Sandbox]:
        """A sandbox that nobody has used, removed at the end. Waits for a free slot: first come first served within a
        `group`, the groups in turn. Raises what the backend's `start` raises, DiskFullError, and SandboxUnavailableError once
        the pool is closed or while its engine is away. Ending a lease while its own engine is gone does not raise."""
        async with self._slots.take(group):
            self._check_open()
            self._watch()
            self.active += 1
            try:
                sandbox = LeasedSandbox(await self._acquire(image, workdir), self._diagnose, self.exec_s.add)
                self._leases.add(sandbox)
                expiry = asyncio.get_running_loop().create_task(self._expire(sandbox))
                try:
                    self._check_open()
                    yield sandbox
                finally:
                    expiry.cancel()
                    self._leases.discard(sandbox)
                    self.lost += sandbox.lost is not None
                    await _finish(sandbox.close())
            finally:
                self.active -= 1

    async def close(self) -> None:
        """Close every sandbox and the backend; who waits or works gets an error. Idempotent."""
        self._closed = True
        self._engine_back.set()
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
        for task in list(self._starting):
            task.cancel()
        for sandbox in list(self._leases):
            sandbox.take_back(SandboxLostError("the sandbox pool was closed"))
            await _finish(sandbox.close())
        await _finish(self._warm.close())
        await _finish(self._backend.close())

    async def _acquire(self, image: str, workdir: str) -> Sandbox:
        if self.engine_is_down:
            try:
                async with asyncio.timeout(self._recover_s):
                    await self._engine_back.wait()
            except TimeoutError:
                raise SandboxUnavailableError(
                    f"the sandboxes' engine is away since more than {self._recover_s:g} s: {self._down_because}"
                ) from None
            self._check_open()
        warm = await self._warm.take(image, workdir)
        if warm is not None:
            self.warm_hits += 1
            return warm
        return await self._start(image, workdir)

    async def _start(self, image: str, workdir: str) -> Sandbox:
        self._check_open()  # `close` may have cancelled a start that the caller waited for
        task = asyncio.ensure_future(self._backend.start(image, workdir))
        self._starting.add(task)
        began = time.monotonic()
        try:
            sandbox = await task
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            if self._closed and caller is not None and not caller.cancelling():
                raise SandboxUnavailableError("the sandbox pool was closed") from None
            raise
        except SandboxStartError as error:
            if means_disk_full(error):
                raise DiskFullError(f"no space is left to start a sandbox from {image}; free some: {error}") from error
            raise
        finally:
            self._starting.discard(task)
        self.started += 1
        self.start_s.add(time.monotonic() - began)
        return sandbox

    async def _expire(self, sandbox: LeasedSandbox) -> None:
        await asyncio.sleep(self._lease_s)
        sandbox.take_back(LeaseExpiredError(f"the sandbox outlived its lease of {self._lease_s:g} s (rollout.lease_s)"))
        await _finish(sandbox.close())

    def _watch(self) -> None:
        """Start watching the backend, and look after a watch that ended with a bug."""
        if self._watching is not None and self._watching.done():
            self._watching.result()
        if self._watching is None and isinstance(self._backend, SweepingBackend):
            self._watching = asyncio.get_running_loop().create_task(self._sweep_regularly(self._backend))

    async def _sweep_regularly(self, backend: SweepingBackend) -> None:
        failed = 0
        while not self._closed:
            await asyncio.sleep(self._watch_s)
            self._warm.expire()
            try:
                async with asyncio.timeout(SWEEP_S):
                    self.swept += await backend.sweep()
            except (SandboxUnavailableError, TimeoutError) as error:
                why = str(error) or f"no answer within {SWEEP_S:g} s"
                if not backend.has_engine:
                    logger.warning("what dead sandboxes left is not swept up: %s", why)
                    continue
                failed += 1
                if failed == SWEEPS_FAILED:
                    self._engine_went_away(why)
                continue
            failed = 0
            if self.engine_is_down:
                logger.warning("the sandboxes' engine answers again")
                self._engine_back.set()

    def _engine_went_away(self, why: str) -> None:
        logger.warning("the sandboxes' engine went away, %d leases are lost: %s", len(self._leases), why)
        self.engine_losses += 1
        self._down_because = why
        self._engine_back.clear()
        self._warm.drop_all()
        for sandbox in self._leases:
            sandbox.take_back(EngineLostError(f"the sandbox's engine went away: {why}"))
            ending = asyncio.ensure_future(_finish(sandbox.close()))  # wakes who waits for a command in it
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _diagnose(self, error: SandboxLostError) -> SandboxLostError:
        """Why a sandbox was lost: EngineLostError when its engine is gone too."""
        if self._closed or not isinstance(self._backend, SweepingBackend) or not self._backend.has_engine:
            return error
        asked = time.monotonic()
        try:
            async with asyncio.timeout(DIAGNOSE_S):
                await self._backend.sweep()
        except (SandboxUnavailableError, TimeoutError) as away:
            waited = time.monotonic() - asked
            return EngineLostError(f"the sandbox's engine went away: {away or f'no answer within {waited:.0f} s'}")
        return error

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxUnavailableError("the sandbox pool is closed")


async def _finish_sandbox(sandbox: Sandbox) -> None:
    await _finish(sandbox.close())


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
