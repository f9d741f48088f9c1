import asyncio

import pytest

from configs.sandbox_config import SandboxConfig
from envpool.pool.sandbox_pool import SandboxPool
from envpool.sandbox import Sandbox
from envpool.sandbox_errors import ImageMissingError, SandboxLostError, SandboxStartError, SandboxUnavailableError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.scripted_sandbox import ScriptedBackend, ScriptedSandbox, said


class GatedBackend:
    """Starts scripted sandboxes once `gate` is open; records the order of what was asked for."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.asked: list[str] = []
        self.sandboxes: list[ScriptedSandbox] = []
        self.closed = False

    async def start(self, image: str, workdir: str) -> Sandbox:
        self.asked.append(image)
        await self.gate.wait()
        if image == "folder:broken":
            raise SandboxStartError("broken on purpose")
        sandbox = ScriptedSandbox({}, lambda command: said(image), workdir, die_after=1 if image == "folder:dies" else None)
        self.sandboxes.append(sandbox)
        return sandbox

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def backend() -> GatedBackend:
    opened = GatedBackend()
    opened.gate.set()
    return opened


async def test_lease_gives_a_fresh_sandbox_and_closes_it(images: FolderImages, calc_image: str) -> None:
    backend = ScriptedBackend(SandboxConfig(), images, "test", {"ls": said("calc.py\n")})
    pool = SandboxPool(backend, 1, 60)
    for _ in range(2):
        async with pool.lease(calc_image, "/testbed") as sandbox:
            assert sandbox.workdir == "/testbed"
            assert (await sandbox.run("ls", 5)).output == "calc.py\n"
            assert await sandbox.read_file("pkg/data.txt") == b"one\ntwo\nthree\n"
            await sandbox.write_file("pkg/data.txt", b"")
    assert (pool.started, pool.lost, pool.active) == (2, 0, 0)
    assert [used.closed for used in backend.sandboxes] == [True, True]


async def test_at_most_num_sandboxes_first_come_first_served(backend: GatedBackend) -> None:
    pool = SandboxPool(backend, 2, 60)
    most, order = 0, []

    async def use(number: int) -> None:
        nonlocal most
        async with pool.lease(f"folder:{number}", "/testbed"):
            order.append(number)
            most = max(most, pool.active)
            await asyncio.sleep(0.002)

    await asyncio.gather(*(use(number) for number in range(8)))
    assert (most, order, pool.started, pool.active) == (2, list(range(8)), 8, 0)


async def test_expired_lease_is_lost(backend: GatedBackend) -> None:
    pool = SandboxPool(backend, 1, 0.05)
    async with pool.lease("folder:a", "/testbed") as sandbox:
        async with asyncio.timeout(60):
            while not backend.sandboxes[0].closed:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        for call in (sandbox.run("true", 5), sandbox.read_file("a"), sandbox.write_file("a", b"")):
            with pytest.raises(SandboxLostError, match=r"outlived its lease of 0\.05 s"):
                await call
    assert (pool.started, pool.lost, pool.active) == (1, 1, 0)


async def test_lost_sandbox_is_counted_once(backend: GatedBackend) -> None:
    pool = SandboxPool(backend, 1, 60)
    async with pool.lease("folder:dies", "/testbed") as sandbox:
        await sandbox.run("true", 5)
        for _ in range(2):
            with pytest.raises(SandboxLostError, match="kills the sandbox"):
                await sandbox.run("true", 5)
    assert (pool.started, pool.lost) == (1, 1)


async def test_failed_start_frees_its_slot(backend: GatedBackend) -> None:
    pool = SandboxPool(backend, 1, 60)
    with pytest.raises(SandboxStartError):
        async with pool.lease("folder:broken", "/testbed"):
            pass
    async with asyncio.timeout(5), pool.lease("folder:good", "/testbed") as sandbox:
        assert (await sandbox.run("x", 5)).output == "folder:good"
    assert (pool.started, pool.active) == (1, 0)


async def test_cancelled_users_free_their_slots(backend: GatedBackend) -> None:
    pool = SandboxPool(backend, 1, 60)
    backend.gate.clear()

    async def use(image: str) -> None:
        async with pool.lease(image, "/testbed"):
            await asyncio.sleep(60)

    starting, waiting = asyncio.create_task(use("folder:1")), asyncio.create_task(use("folder:2"))
    await asyncio.sleep(0.01)
    waiting.cancel()
    starting.cancel()
    await asyncio.wait([starting, waiting], timeout=5)
    backend.gate.set()
    using = asyncio.create_task(use("folder:3"))
    await asyncio.sleep(0.01)
    assert pool.active == 1
    using.cancel()
    await asyncio.wait([using], timeout=5)
    assert (pool.active, backend.asked, backend.sandboxes[0].closed) == (0, ["folder:1", "folder:3"], True)
    async with asyncio.timeout(5), pool.lease("folder:4", "/testbed"):
        pass


async def test_error_of_the_user_passes_through(backend: GatedBackend) -> None:
    pool = SandboxPool(backend, 1, 60)
    with pytest.raises(KeyError):
        async with pool.lease("folder:a", "/testbed"):
            raise KeyError("mine")
    assert (pool.active, pool.lost, backend.sandboxes[0].closed) == (0, 0, True)


async def test_close_ends_users_starters_and_waiters(backend: GatedBackend) -> None:
    pool = SandboxPool(backend, 2, 60)
    using, entered = [], asyncio.Event()

    async def use(image: str) -> None:
        async with pool.lease(image, "/testbed") as sandbox:
            entered.set()
            while True:
                await sandbox.run("true", 5)
                await asyncio.sleep(0.001)

    using.append(asyncio.create_task(use("folder:user")))
    await entered.wait()
    backend.gate.clear()
    using += [asyncio.create_task(use(f"folder:{name}")) for name in ("starter", "waiter")]
    await asyncio.sleep(0.01)
    await pool.close()
    await asyncio.wait(using, timeout=5)
    assert [type(task.exception()) for task in using] == [SandboxLostError, SandboxUnavailableError, SandboxUnavailableError]
    assert (pool.active, backend.closed) == (0, True)
    with pytest.raises(SandboxUnavailableError):
        async with pool.lease("folder:late", "/testbed"):
            pass
    await pool.close()


async def test_missing_image_is_told(images: FolderImages) -> None:
    with pytest.raises(ImageMissingError):
        async with SandboxPool(ScriptedBackend(SandboxConfig(), images, "test"), 1, 60).lease("folder:none", "/testbed"):
            pass


@pytest.mark.parametrize(("num_sandboxes", "lease_s"), [(0, 1.0), (1, 0.0)])
def test_nonsense_is_refused(backend: GatedBackend, num_sandboxes: int, lease_s: float) -> None:
    with pytest.raises(ValueError, match="a pool needs"):
        SandboxPool(backend, num_sandboxes, lease_s)
