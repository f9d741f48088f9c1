"""Isolation, proved against both backends that promise it."""

import asyncio
import traceback
import uuid
from collections.abc import AsyncIterator

import pytest

from configs.sandbox_config import SandboxConfig
from envpool.sandbox import Sandbox, SandboxBackend
from envpool.sandbox_parts.control_groups import limited_controllers
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.docker_sandbox import DockerBackend
from envpool.sandboxes.process_sandbox import ProcessBackend, bubblewrap_works
from tests.envpool.sandboxes.isolation_checks import PROOFS
from tests.envpool.sandboxes.sandbox_faults import works

CONFIG = SandboxConfig(memory_mib=256, pids=64, cpus=1.0, max_file_mib=32, isolation="bubblewrap")
NEEDS_GROUPS = ("memory_is_bounded", "processes_are_bounded")


@pytest.fixture
async def process_backend(images: FolderImages) -> AsyncIterator[ProcessBackend]:
    if not bubblewrap_works():
        pytest.skip("bubblewrap is not installed or may not make namespaces here")
    backend = ProcessBackend(CONFIG, images, f"test{uuid.uuid4().hex[:8]}")
    yield backend
    await backend.close()


@pytest.mark.parametrize("proof", PROOFS)
async def test_bubblewrap(process_backend: ProcessBackend, calc_image: str, proof: str) -> None:
    if proof in NEEDS_GROUPS and len(limited_controllers()) < 3:
        pytest.skip("this process may not make control groups")
    sandbox, other = await two(process_backend, calc_image)
    await PROOFS[proof](sandbox, other)


async def test_bubblewrap_writes_nothing_but_its_folders(process_backend: ProcessBackend, calc_image: str) -> None:
    sandbox = await process_backend.start(calc_image, "/testbed")
    for path in ("/owned", "/usr/owned", "/etc/owned", "/dev/owned", "/proc/owned", "/testbed/../owned"):
        assert (await sandbox.run(f"touch {path}", 20)).exit_code != 0, path
    assert (await sandbox.run("cat /etc/shadow", 20)).exit_code != 0


@pytest.mark.docker
async def test_docker(docker_engine: str, images: FolderImages, calc_image: str) -> None:
    """All at once, each with two containers of its own: the starts are what costs."""
    backend = DockerBackend(
        SandboxConfig(docker_host=docker_engine, memory_mib=256, pids=64, max_file_mib=32), images, f"test{uuid.uuid4().hex[:8]}"
    )
    failed = {}
    one_other = await backend.start(calc_image, "/testbed")

    async def prove(name: str) -> None:
        try:
            sandbox = await backend.start(calc_image, "/testbed")
            await PROOFS[name](sandbox, one_other)
            await sandbox.close()
        except (Exception, pytest.fail.Exception) as error:
            failed[name] = "".join(traceback.format_exception(error)[-2:])

    try:
        await asyncio.gather(*(prove(name) for name in PROOFS))
        assert failed == {}
        filters = await one_other.run("grep Seccomp: /proc/self/status", 20)
        assert filters.output == "Seccomp:\t2\n"  # the engine's filter of system calls
        await works(one_other)
    finally:
        await backend.close()


async def two(backend: SandboxBackend, image: str) -> tuple[Sandbox, Sandbox]:
    first, second = await asyncio.gather(*(backend.start(image, "/testbed") for _ in range(2)))
    return first, second
