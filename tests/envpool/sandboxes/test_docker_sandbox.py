import asyncio
import subprocess
import sys
import time
import traceback
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from configs.sandbox_config import SandboxConfig
from envpool.git_scrub import apply_patch, extract_patch
from envpool.pool.sandbox_pool import SandboxPool
from envpool.sandbox_errors import ImageMissingError, SandboxLostError, SandboxUnavailableError
from envpool.sandbox_parts.docker_engine import connect
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandbox_parts.sandbox_reaper import EXPIRES, LEASE, OWNER, Lease, reap_containers
from envpool.sandboxes.docker_sandbox import DockerBackend, DockerSandbox
from tests.envpool.sandboxes.sandbox_faults import FAULTS, runs, unique_seconds, works


@pytest.fixture
def owner() -> str:
    return f"test{uuid.uuid4().hex[:8]}"


@pytest.fixture
def client(docker_engine: str, owner: str) -> Any:
    engine = connect(docker_engine, timeout_s=60)
    yield engine
    left = containers_of(engine, owner)
    for container in left:
        engine.remove_container(container, force=True)
    engine.close()
    assert left == []


def containers_of(client: Any, owner: str) -> list[str]:
    return [found["Id"] for found in client.containers(all=True, filters={"label": f"{OWNER}={owner}"})]


@pytest.fixture
async def backend(docker_engine: str, client: Any, images: FolderImages, owner: str) -> AsyncIterator[DockerBackend]:
    opened = DockerBackend(SandboxConfig(docker_host=docker_engine, memory_mib=256, pids=64), images, owner)
    yield opened
    await opened.close()


@pytest.fixture
async def sandbox(backend: DockerBackend, calc_image: str) -> DockerSandbox:
    return await backend.start(calc_image, "/testbed")


@pytest.mark.docker
async def test_every_fault(backend: DockerBackend, calc_image: str) -> None:
    failed = {}

    async def survive(name: str) -> None:
        try:
            sandbox = await backend.start(calc_image, "/testbed")
            await FAULTS[name](sandbox)
            await works(sandbox)
            await sandbox.close()
        except Exception as error:
            failed[name] = "".join(traceback.format_exception(error)[-2:])

    await asyncio.gather(*(survive(name) for name in FAULTS))
    assert failed == {}


@pytest.mark.docker
async def test_limits_and_isolation(sandbox: DockerSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    network = "import socket; socket.create_connection(('1.1.1.1', 80), 3)"
    result = await sandbox.run(f'python3 -c "{network}"', 20)
    assert (result.exit_code, "Network is unreachable" in result.output) == (1, True)
    assert (await sandbox.run("python3 -c 'x = bytearray(10**9)'", 60)).exit_code == 137
    bomb = await sandbox.run("for i in $(seq 200); do sleep 60 & done; wait", 2)
    assert bomb.timed_out
    await works(sandbox)
    assert (
        await sandbox.run("grep -E 'CapEff|NoNewPrivs' /proc/self/status", 20)
    ).output == "CapEff:\t0000000000000000\nNoNewPrivs:\t1\n"
    zombies = (
        "for i in 1 2 3; do (sh -c 'sleep 0.05 & exec true' &); done; sleep 0.5; grep -l 'State:.Z' /proc/[0-9]*/status | wc -l"
    )
    assert (await sandbox.run(zombies, 20)).output == "0\n"


@pytest.mark.docker
async def test_environment_is_the_images(sandbox: DockerSandbox) -> None:
    names = {line.split("=")[0] for line in (await sandbox.run("env", 20)).output.splitlines()}
    assert names <= {"PATH", "HOME", "LANG", "HOSTNAME", "PWD", "OLDPWD", "SHLVL", "_", "PYTHONDONTWRITEBYTECODE"}


@pytest.mark.docker
async def test_files(sandbox: DockerSandbox) -> None:
    assert await sandbox.read_file("pkg/data.txt") == b"one\ntwo\nthree\n"
    assert await sandbox.read_file("/testbed/pkg/data.txt", max_bytes=5) == b"one\nt"
    every_byte = bytes(range(256))
    for size in (0, 1, 100, 1000):  # the last goes as an archive
        await sandbox.write_file("new/deep/it's.bin", every_byte * size)
        assert await sandbox.read_file("/testbed/new/deep/it's.bin") == every_byte * size
    with pytest.raises(FileNotFoundError):
        await sandbox.read_file("absent.txt")
    with pytest.raises(IsADirectoryError):
        await sandbox.read_file("pkg")
    with pytest.raises(IsADirectoryError):
        await sandbox.write_file("pkg", b"x")
    with pytest.raises(PermissionError):
        await sandbox.read_file("/dev/zero")


@pytest.mark.docker
async def test_patch_round_trip(backend: DockerBackend, sandbox: DockerSandbox, calc_image: str) -> None:
    await sandbox.run("sed -i 's/a - b/a + b/' calc.py; printf 'caf\\351' > latin.txt", 20)
    patch = await extract_patch(sandbox, 30)
    assert patch.files == ("calc.py", "latin.txt")
    fresh = await backend.start(calc_image, "/testbed")
    assert await apply_patch(fresh, patch, 30)
    assert (await fresh.run("python3 -c 'import calc; print(calc.add(1, 2))'", 20)).output == "3\n"
    assert await fresh.read_file("latin.txt") == b"caf\xe9"


@pytest.mark.docker
async def test_killed_container_is_lost(client: Any, sandbox: DockerSandbox, backend: DockerBackend, calc_image: str) -> None:
    seconds = unique_seconds()
    running = asyncio.create_task(sandbox.run(f"sleep {seconds}", 120))
    await runs(seconds)
    await asyncio.to_thread(client.kill, sandbox.container)
    with pytest.raises(SandboxLostError):
        await running
    with pytest.raises(SandboxLostError):
        await sandbox.run("true", 20)
    with pytest.raises(SandboxLostError):
        await sandbox.read_file("calc.py")
    await sandbox.close()
    pool = SandboxPool(backend, 1, 60)
    async with pool.lease(calc_image, "/testbed") as leased:
        assert (await leased.run("echo fresh", 20)).output == "fresh\n"


@pytest.mark.docker
async def test_cancelled_start_leaves_no_container(backend: DockerBackend, client: Any, owner: str, calc_image: str) -> None:
    await (await backend.start(calc_image, "/testbed")).close()
    for delay_s in (0.01, 0.1, 0.3):
        starting = asyncio.create_task(backend.start(calc_image, "/testbed"))
        await asyncio.sleep(delay_s)
        starting.cancel()
        await asyncio.wait([starting], timeout=60)
    await backend.close()
    assert containers_of(client, owner) == []


@pytest.mark.docker
async def test_docker_image_starts_as_it_is(backend: DockerBackend) -> None:
    sandbox = await backend.start("docker:swe-master-base", "/testbed")
    assert (await sandbox.run("pwd; ls -A", 20)).output == "/testbed\n"
    with pytest.raises(ImageMissingError, match="no-such-image"):
        await backend.start("docker:no-such-image:1", "/testbed")
    with pytest.raises(ImageMissingError, match="folder:absent"):
        await backend.start("folder:absent", "/testbed")


@pytest.mark.docker
def test_reaper_removes_what_dead_processes_left(client: Any, owner: str) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(timeout=30)
    host, pid, started, number = str(Lease.mine(0)).split("/")
    later, past = str(int(time.time()) + 600), str(int(time.time()) - 600)

    def make(lease: str, expires: str, of: str = owner) -> str:
        labels = {OWNER: of, LEASE: lease, EXPIRES: expires}
        return str(client.create_container("swe-master-base", ["sleep", "600"], labels=labels)["Id"])

    other_owner = f"{owner}x"
    kept = {make(f"{host}/{pid}/{started}/{number}", later), make(f"another-host/{gone.pid}/1/0", later)}
    spared = make(f"{host}/{gone.pid}/1/0", later, other_owner)
    for lease, expires in (
        (f"{host}/{gone.pid}/1/0", later),
        (f"{host}/{pid}/1/0", later),
        (f"{host}/{pid}/{started}/1", past),
        ("", ""),
    ):
        make(lease, expires)
    try:
        assert reap_containers(client, owner) == 4
        assert set(containers_of(client, owner)) == kept
        assert containers_of(client, other_owner) == [spared]
    finally:
        for container in (*kept, spared):
            client.remove_container(container, force=True)


async def test_no_engine_says_what_to_do(images: FolderImages, calc_image: str) -> None:
    backend = DockerBackend(SandboxConfig(docker_host="unix:///nonexistent/docker.sock"), images, "test")
    with pytest.raises(SandboxUnavailableError, match=r"unix:///nonexistent/docker\.sock .*make docker-local"):
        await backend.start(calc_image, "/testbed")
    await backend.close()
