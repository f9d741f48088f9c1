"""Prefetched sandboxes, an engine that goes away, a full disk: the pool with a scripted backend."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from envpool.pool import sandbox_pool
from envpool.pool.sandbox_pool import SandboxPool
from envpool.sandbox import ExecResult, Sandbox
from envpool.sandbox_errors import (
    DiskFullError,
    EngineLostError,
    LeaseExpiredError,
    Retry,
    SandboxError,
    SandboxLostError,
    SandboxStartError,
    SandboxUnavailableError,
    retry_rule,
)
from envpool.sandboxes.scripted_sandbox import ScriptedSandbox, said


class GatedSandbox(ScriptedSandbox):
    """Its commands wait until `answers` is set."""

    answers: asyncio.Event

    async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
        result = await super().run(command, timeout_s, max_output_bytes)
        await self.answers.wait()
        return result


class SweptBackend:
    """Scripted sandboxes; `away` makes the engine not answer, `fails` makes starts of that image fail. Starts wait for `starts`,
    sweeps for `sweeps_end`, commands for `answers`: events that are set at first."""

    has_engine = True

    def __init__(self) -> None:
        self.started: list[str] = []
        self.sandboxes: list[ScriptedSandbox] = []
        self.fails: dict[str, SandboxError] = {}
        self.starts, self.sweeps_end, self.answers = asyncio.Event(), asyncio.Event(), asyncio.Event()
        for event in (self.starts, self.sweeps_end, self.answers):
            event.set()
        self.away = self.closed = False
        self.sweeps = 0

    async def start(self, image: str, workdir: str) -> Sandbox:
        self.started.append(image)
        await self.starts.wait()
        if self.away:
            raise SandboxUnavailableError("the scripted engine is away")
        if image in self.fails:
            raise self.fails[image]
        sandbox = GatedSandbox({}, lambda command: said(image), workdir)
        sandbox.answers = self.answers
        self.sandboxes.append(sandbox)
        return sandbox

    async def sweep(self) -> int:
        self.sweeps += 1
        await self.sweeps_end.wait()
        if self.away:
            raise SandboxUnavailableError("the scripted engine is away")
        return 0

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def backend() -> SweptBackend:
    return SweptBackend()


async def until(condition: object, what: str) -> None:
    assert callable(condition)
    for _ in range(12_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(what)


def leasing(pool: SandboxPool, stack: AsyncExitStack, image: str) -> "asyncio.Task[Sandbox]":
    return asyncio.create_task(stack.enter_async_context(pool.lease(image, "/testbed")))


def make(backend: SweptBackend, num_sandboxes: int = 4, num_warm: int = 2, **options: float) -> SandboxPool:
    settings = {"watch_s": 0.01, "recover_s": 5.0, **options}
    return SandboxPool(backend, num_sandboxes, settings.pop("lease_s", 60.0), num_warm=num_warm, **settings)


async def test_hinted_sandboxes_wait_for_their_user(backend: SweptBackend) -> None:
    pool = make(backend)
    pool.prefetch("folder:a", "/testbed", 1)
    pool.prefetch("folder:b", "/testbed", 3)
    await until(lambda: len(backend.started) == 2, "two are started ahead")
    assert backend.started == ["folder:a", "folder:b"]
    async with pool.lease("folder:b", "/testbed") as sandbox:
        assert (await sandbox.run("x", 5)).output == "folder:b"
        await until(lambda: len(backend.started) == 3, "the room is used for the next hint")
    async with pool.lease("folder:c", "/testbed"):
        assert backend.started[-1] == "folder:c"
    assert (pool.warm_hits, pool.started) == (1, 4)
    await pool.close()
    assert all(sandbox.closed for sandbox in backend.sandboxes)


async def test_a_lease_waits_for_the_one_that_is_just_starting(backend: SweptBackend) -> None:
    backend.starts.clear()
    pool = make(backend)
    pool.prefetch("folder:a", "/testbed")
    await until(lambda: backend.started, "it is starting")
    async with AsyncExitStack() as stack:
        patient = leasing(pool, stack, "folder:a")
        await until(lambda: pool.active == 1, "the lease waits for it")
        backend.starts.set()
        await patient
    assert (backend.started, pool.warm_hits) == (["folder:a"], 1)
    backend.starts.clear()
    pool.prefetch("folder:a", "/testbed", 2)
    await until(lambda: len(backend.started) == 3, "two are starting")
    async with AsyncExitStack() as stack:
        hurried = leasing(pool, stack, "folder:a")
        await until(lambda: pool.active == 1, "the lease waits for one of them")
        hurried.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hurried
    backend.starts.set()
    await until(lambda: len(backend.sandboxes) == 3, "both are there")
    await until(lambda: sum(not used.closed for used in backend.sandboxes) == 1, "what nobody takes any more is removed")
    await pool.close()
    assert (pool.active, all(used.closed for used in backend.sandboxes)) == (0, True)


async def test_who_is_cancelled_while_a_warm_one_is_asked_leaves_it_to_nobody(backend: SweptBackend) -> None:
    pool = make(backend)
    pool.prefetch("folder:a", "/testbed")
    await until(lambda: pool.num_warm_ready == 1, "it is warm")
    backend.answers.clear()
    async with AsyncExitStack() as stack:
        cut = leasing(pool, stack, "folder:a")
        await until(lambda: backend.sandboxes[0].commands, "it is asked whether it lives")
        cut.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cut
    await until(lambda: backend.sandboxes[0].closed, "it is removed")
    assert (pool.active, pool.num_warm_ready, len(backend.sandboxes)) == (0, 0, 1)
    await pool.close()


async def test_a_lease_whose_start_ahead_ends_with_the_pool_starts_no_other(backend: SweptBackend) -> None:
    backend.starts.clear()
    pool = make(backend)
    pool.prefetch("folder:a", "/testbed", 2)
    pool.prefetch("folder:b", "/testbed", 2)
    await until(lambda: len(backend.started) == 2, "two are starting, two more would like to")
    async with AsyncExitStack() as stack:
        waiting = leasing(pool, stack, "folder:a")
        await until(lambda: pool.active == 1, "the lease waits for one of them")
        started = list(backend.started)  # the watch may have used the room for another
        await pool.close()
        with pytest.raises(SandboxUnavailableError, match="the sandbox pool is closed"):
            await asyncio.wait_for(waiting, 60)
    assert (backend.started, backend.sandboxes, pool.active) == (started, [], 0)


async def test_dead_failed_and_stale_ones_are_never_lent(backend: SweptBackend) -> None:
    backend.fails["folder:broken"] = SandboxStartError("broken on purpose")
    pool = make(backend)
    pool.prefetch("folder:broken", "/testbed")
    pool.prefetch("folder:a", "/testbed")
    await until(lambda: len(backend.sandboxes) == 1, "one is there")
    await backend.sandboxes[0].close()  # it dies while it waits
    async with pool.lease("folder:a", "/testbed") as sandbox:
        assert (await sandbox.run("x", 5)).output == "folder:a"
    with pytest.raises(SandboxStartError, match="on purpose"):
        async with pool.lease("folder:broken", "/testbed"):
            pass
    assert pool.warm_hits == 0
    await pool.close()
    brief = make(backend, lease_s=0.05)  # no lease is taken: the time is how long an unused one is kept
    async with brief.lease("folder:b", "/testbed"):
        pass  # the watch begins with the first lease
    brief.prefetch("folder:a", "/testbed")
    await until(lambda: len(backend.sandboxes) == 4, "another is there")
    await until(lambda: backend.sandboxes[3].closed, "it is removed after a lease's time")
    assert brief.warm_hits == 0
    await brief.close()


async def test_when_the_engine_goes_away_leases_fail_and_new_ones_wait(backend: SweptBackend) -> None:
    pool = make(backend)
    pool.prefetch("folder:warm", "/testbed")
    async with pool.lease("folder:a", "/testbed") as sandbox:
        await until(lambda: len(backend.sandboxes) == 2, "one is warm")
        backend.away = True
        await until(lambda: pool.engine_is_down, "it is noticed")
        with pytest.raises(EngineLostError, match="engine went away: the scripted engine is away"):
            await sandbox.run("x", 5)
        await until(lambda: all(used.closed for used in backend.sandboxes), "all are given up")
        async with AsyncExitStack() as stack:
            waiting = asyncio.create_task(stack.enter_async_context(pool.lease("folder:b", "/testbed")))
            await asyncio.sleep(0.03)
            assert not waiting.done()
            backend.away = False
            assert (await (await asyncio.wait_for(waiting, 5)).run("x", 5)).output == "folder:b"
    assert (pool.lost, pool.engine_losses, backend.started[-1]) == (1, 1, "folder:b")
    await pool.close()


async def test_an_engine_that_stays_away_is_told(backend: SweptBackend) -> None:
    pool = make(backend, recover_s=0.05)
    async with pool.lease("folder:a", "/testbed"):
        backend.away = True
        await until(lambda: pool.engine_is_down, "it is noticed")
    with pytest.raises(SandboxUnavailableError, match=r"away since more than 0\.05 s: the scripted engine is away"):
        async with pool.lease("folder:b", "/testbed"):
            pass
    backend.away = False
    await until(lambda: not pool.engine_is_down, "its return is noticed")
    async with pool.lease("folder:c", "/testbed") as sandbox:
        assert (await sandbox.run("x", 5)).output == "folder:c"
    assert pool.active == 0
    await pool.close()
    swept = backend.sweeps
    await asyncio.sleep(0.05)
    assert backend.sweeps == swept


async def test_a_lost_sandbox_is_told_from_a_lost_engine(backend: SweptBackend) -> None:
    pool = make(backend, watch_s=60.0)
    for away, expected in ((False, SandboxLostError), (True, EngineLostError)):
        async with pool.lease("folder:a", "/testbed") as sandbox:
            await backend.sandboxes[-1].close()
            backend.away = away
            for _ in range(2):
                with pytest.raises(SandboxLostError) as caught:
                    await sandbox.run("x", 5)
                assert type(caught.value) is expected
        backend.away = False
    assert pool.lost == 2
    await pool.close()


@pytest.mark.parametrize("has_engine", [True, False])
async def test_a_late_sweep_speaks_of_an_engine_only_where_there_is_one(
    backend: SweptBackend, has_engine: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_pool, "SWEEP_S", 0.01)
    monkeypatch.setattr(sandbox_pool, "DIAGNOSE_S", 0.01)
    backend.has_engine = has_engine
    backend.sweeps_end.clear()
    pool = make(backend)
    expected = EngineLostError if has_engine else SandboxLostError
    async with pool.lease("folder:a", "/testbed") as sandbox:
        await until(lambda: pool.engine_is_down or backend.sweeps >= 5, "sweeps come late, one after another")
        assert (pool.engine_is_down, pool.engine_losses) == (has_engine, int(has_engine))
        if not has_engine:
            assert (await sandbox.run("x", 5)).output == "folder:a"
            await backend.sandboxes[0].close()
        with pytest.raises(SandboxLostError) as caught:
            await sandbox.run("x", 5)
        assert type(caught.value) is expected
    await pool.close()


async def test_a_full_disk_has_its_own_error(backend: SweptBackend) -> None:
    full = SandboxStartError("cannot start")
    full.__cause__ = OSError("write /var/lib/docker/x: no space left on device")
    backend.fails["folder:a"] = full
    pool = make(backend)
    with pytest.raises(DiskFullError, match="no space is left to start a sandbox from folder:a"):
        async with pool.lease("folder:a", "/testbed"):
            pass
    del backend.fails["folder:a"]
    async with pool.lease("folder:a", "/testbed"):
        pass
    await pool.close()


async def test_an_expired_lease_is_told(backend: SweptBackend) -> None:
    pool = make(backend, lease_s=0.05)
    async with pool.lease("folder:a", "/testbed") as sandbox:
        await until(lambda: backend.sandboxes[0].closed, "it is taken back")
        with pytest.raises(LeaseExpiredError, match=r"lease of 0\.05 s"):
            await sandbox.run("x", 5)
    await pool.close()


def test_every_error_says_whether_to_retry() -> None:
    def below(kind: type[SandboxError]) -> list[type[SandboxError]]:
        return [kind, *(found for child in kind.__subclasses__() for found in below(child))]

    rules = {kind.__name__: kind.retry for kind in below(SandboxError) if kind.__module__ == SandboxError.__module__}
    assert rules == {
        "SandboxError": Retry.FRESH,
        "ImageMissingError": Retry.NEVER,
        "SandboxStartError": Retry.FRESH,
        "DiskFullError": Retry.PAUSE,
        "SandboxUnavailableError": Retry.PAUSE,
        "SandboxLostError": Retry.FRESH,
        "EngineLostError": Retry.PAUSE,
        "LeaseExpiredError": Retry.ONCE,
    }
    assert retry_rule(RuntimeError("a policy")) is Retry.FRESH
    assert [Retry.ONCE.allows(failures, 0) for failures in (1, 2)] == [False, False]
