"""A real engine that is stopped, crashes, or has no disk left: the right error, a usable pool, nothing left."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from configs.sandbox_config import SandboxConfig
from envpool.pool.sandbox_pool import SandboxPool
from envpool.sandbox_errors import DiskFullError, EngineLostError, SandboxLostError, SandboxStartError
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandbox_parts.sandbox_reaper import OWNER
from envpool.sandboxes.docker_sandbox import DockerBackend
from tests.envpool.sandboxes.private_engine import IMAGE, PrivateEngine, why_not

SIZE_MIB = 200


@pytest.fixture(scope="module")
def engine() -> Iterator[PrivateEngine]:
    if reason := why_not():
        pytest.skip(reason)
    private = PrivateEngine(SIZE_MIB)
    try:
        private.start()
        private.import_image()
        yield private
    finally:
        private.remove()


@pytest.fixture
def owner() -> str:
    return f"faults{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def pool(engine: PrivateEngine, images: FolderImages, owner: str) -> AsyncIterator[SandboxPool]:
    config = SandboxConfig(docker_host=engine.address, memory_mib=128, pids=64, base_image=IMAGE)
    lender = SandboxPool(DockerBackend(config, images, owner), 4, 120.0, num_warm=1, watch_s=0.2)
    yield lender
    await lender.close()
    client = engine.client()
    left = client.containers(all=True, filters={"label": f"{OWNER}={owner}"})
    client.close()
    assert left == []


async def in_time(condition: object, what: str) -> None:
    assert callable(condition)
    for _ in range(1200):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(what)


def fill(file: Path, disk: Path, spared_mib: int) -> None:
    """Leave `spared_mib` free on a disk."""
    space = os.statvfs(disk)
    with file.open("wb") as filler:
        for _ in range(space.f_bavail * space.f_frsize // 1_048_576 - spared_mib):
            filler.write(bytes(1_048_576))


@pytest.mark.docker
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_engine_stopped_and_started(engine: PrivateEngine, pool: SandboxPool, calc_image: str, how: signal.Signals) -> None:
    pool.prefetch(calc_image, "/testbed")
    async with pool.lease(calc_image, "/testbed") as idle, pool.lease(calc_image, "/testbed") as busy:
        running = asyncio.create_task(busy.run("sleep 600", 120))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(engine.stop, how)
        with pytest.raises(SandboxLostError):
            await asyncio.wait_for(running, 60)
        await in_time(lambda: pool.engine_is_down, "the engine's end is noticed")
        with pytest.raises(EngineLostError, match="engine went away"):
            await idle.run("echo never", 20)
        async with AsyncExitStack() as stack:
            waiting = asyncio.create_task(stack.enter_async_context(pool.lease(calc_image, "/testbed")))
            await asyncio.sleep(0.2)
            assert not waiting.done()
            await asyncio.to_thread(engine.start)
            again = await asyncio.wait_for(waiting, 90)
            assert (await again.run("cat pkg/data.txt", 20)).output == "one\ntwo\nthree\n"
    client = engine.client()
    try:  # what could not be removed while the engine was away is swept up
        await in_time(lambda: client.containers(all=True) == [], "leftovers are swept up")
    finally:
        client.close()
    assert (pool.engine_losses, pool.lost) == (1, 2)


@pytest.mark.docker
async def test_disk_full(engine: PrivateEngine, pool: SandboxPool, images: FolderImages, calc_image: str) -> None:
    big = images.add("big", {"big.txt": "0123456789abcdef" * 2_000_000})
    filler = Path(engine.folder, "filler")
    async with pool.lease(calc_image, "/testbed") as sandbox:
        await asyncio.to_thread(fill, filler, engine.folder, 8)
        for _ in range(2):
            with pytest.raises(DiskFullError, match="no space is left to start a sandbox from folder:big"):
                async with pool.lease(big, "/testbed"):
                    pass
        result = await sandbox.run("dd if=/dev/zero of=fill bs=1048576 count=300 2>&1 | head -n 1; rm fill; echo on", 60)
        assert "No space left" in result.output  # inside a sandbox a full disk is what the agent sees
        await asyncio.to_thread(filler.unlink)
        assert (await sandbox.run("echo works", 20)).output == "works\n"
    async with pool.lease(big, "/testbed") as sandbox:
        assert (await sandbox.run("wc -c < big.txt", 20)).output == "32000000\n"


@pytest.mark.docker
async def test_slow_engine_meets_the_start_deadline(
    engine: PrivateEngine, images: FolderImages, calc_image: str, owner: str
) -> None:
    config = SandboxConfig(docker_host=engine.address, memory_mib=128, base_image=IMAGE, start_timeout_s=0.01)
    backend = DockerBackend(config, images, owner)
    client = engine.client()
    try:
        with pytest.raises(SandboxStartError, match="cannot start a container from folder:calc"):
            await backend.start(calc_image, "/testbed")
    finally:
        await backend.close()
        await in_time(lambda: client.containers(all=True, filters={"label": f"{OWNER}={owner}"}) == [], "nothing is left")
        client.close()
