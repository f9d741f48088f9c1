"""What goes wrong around and inside a container, on a real engine: the right result or error, and nothing left behind."""

import asyncio
import os
import shutil
import subprocess
import traceback
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from docker.errors import APIError

from configs.sandbox_config import SandboxConfig
from envpool.sandbox_errors import SandboxLostError, SandboxStartError
from envpool.sandbox_parts.docker_engine import connect
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandbox_parts.sandbox_reaper import OWNER
from envpool.sandboxes.docker_sandbox import DockerBackend, DockerSandbox
from tests.envpool.sandboxes.sandbox_faults import FAULTS, running_with, unique_seconds, works

pytestmark = pytest.mark.docker
APPLETS = "sh sleep head mkdir base64 yes cat wc tr true false seq rm setsid timeout printf env ls"
BUSYBOX_FAULTS = ("hung", "setsid_escape", "exit_in_shell", "killed_shell", "forged_end", "flood", "invalid_utf8", "odd_bytes")


@pytest.fixture
async def backend(docker_engine: str, images: FolderImages) -> AsyncIterator[DockerBackend]:
    owner = f"test{uuid.uuid4().hex[:8]}"
    opened = DockerBackend(SandboxConfig(docker_host=docker_engine, memory_mib=128, pids=64), images, owner)
    yield opened
    await opened.close()
    client = connect(docker_engine, timeout_s=60)
    left = client.containers(all=True, filters={"label": f"{OWNER}={owner}"})
    client.close()
    assert left == []


async def oom_of_a_command(sandbox: DockerSandbox) -> None:
    assert (await sandbox.run("kept=1; python3 -c 'x = bytearray(10**9)'", 60)).exit_code == 137
    assert (await sandbox.run('echo "$kept"', 20)).output == "1\n"


async def oom_of_the_shell(sandbox: DockerSandbox) -> None:
    grow = await sandbox.run("cd pkg; x=x; while :; do x=$x$x; done", 60)
    assert grow.exit_code in (1, 2, 137)  # the shell may notice first
    assert (await sandbox.run("pwd", 20)).output in ("/testbed/pkg\n", "/testbed\n")


async def full_shm(sandbox: DockerSandbox) -> None:
    full = await sandbox.run("head -c 90000000 /dev/zero > /dev/shm/full", 60)
    assert full.exit_code in (1, 137)


async def fork_bomb(sandbox: DockerSandbox) -> None:
    seconds = unique_seconds()
    result = await sandbox.run(f"bomb() {{ sleep {seconds} & bomb | bomb & }}; bomb; sleep {seconds}", 2)
    assert result.exit_code != 0
    await works(sandbox)


async def replaced_sh(sandbox: DockerSandbox) -> None:
    """/bin/sh does nothing any more: commands go on, deadlines hold, and a new shell is found."""
    seconds = unique_seconds()
    await sandbox.run("ln -sf /bin/true /bin/sh", 20)
    assert (await sandbox.run("kept=1; sh -c 'echo never'", 20)).output == ""
    assert (await sandbox.run(f"sleep {seconds}", 0.5)).timed_out
    assert running_with(seconds) == []
    assert (await sandbox.run('echo "$kept"; exit 4', 20)).exit_code == 4


async def removed_shells(sandbox: DockerSandbox) -> None:
    """No shell is left: the one that runs goes on; when it ends the sandbox is lost."""
    await sandbox.run("rm -f /bin/sh /bin/bash /bin/dash /bin/busybox", 20)
    assert (await sandbox.run("echo on", 20)).output == "on\n"
    with pytest.raises(SandboxLostError, match="no shell can be started"):
        await sandbox.run("exit 1", 20)


async def kill_everything(sandbox: DockerSandbox) -> None:
    """All processes but the container's first: the agent's own doing, and no lost sandbox."""
    seconds = unique_seconds()
    await sandbox.run(f"cd pkg; sleep {seconds} & sleep {seconds} &", 20)
    for command in ("kill -9 -1", "sh -c 'kill -9 -1'", "sh -c 'kill -9 -1'"):
        await sandbox.run(command, 20)
        await works(sandbox)
    assert running_with(seconds) == []


async def orphans_are_reaped(sandbox: DockerSandbox) -> None:
    await sandbox.run("for i in 1 2 3 4 5 6 7 8; do (setsid sh -c 'sleep 0.1' &) ; done; sleep 1", 20)
    assert (await sandbox.run("cat /proc/[0-9]*/stat | grep -c ' Z '", 20)).output == "0\n"


async def clock_and_hostname(sandbox: DockerSandbox) -> None:
    before = (await sandbox.run("hostname", 20)).output
    assert (await sandbox.run("date -s '1999-01-01' 2>&1 | grep -c 'not permitted'", 20)).output == "1\n"
    assert (await sandbox.run("hostname owned", 20)).exit_code != 0
    assert (await sandbox.run("hostname", 20)).output == before


def _pause(sandbox: DockerSandbox) -> bool:
    """Whether it worked: on a busy machine runc sometimes cannot freeze a control group, and says so."""
    with suppress(APIError):
        sandbox._client.pause(sandbox.container)
        return True
    return False


async def paused_container(sandbox: DockerSandbox) -> None:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(_pause, sandbox):  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    assert (await sandbox.run("echo late", 1)).timed_out
    assert (await sandbox.run("pwd", 20)).output == "/testbed\n"


async def removed_container(sandbox: DockerSandbox) -> None:
    await asyncio.to_thread(sandbox._client.remove_container, sandbox.container, force=True)
    with pytest.raises(SandboxLostError):
        await sandbox.run("true", 20)
    with pytest.raises(SandboxLostError):
        await sandbox.write_file("large", b"x" * 100_000)
    with pytest.raises(SandboxLostError):
        async for _ in sandbox.get_tar("."):
            pass


SURVIVED = (
    oom_of_a_command,
    oom_of_the_shell,
    full_shm,
    fork_bomb,
    replaced_sh,
    clock_and_hostname,
    kill_everything,
    orphans_are_reaped,
)
LOST = (removed_shells, removed_container)


async def together(backend: DockerBackend, image: str, checks: dict[str, Callable[[DockerSandbox], Awaitable[None]]]) -> None:
    """Every check in a container of its own, all at once: the starts are what costs."""
    failed = {}

    async def one(name: str) -> None:
        try:
            sandbox = await backend.start(image, "/testbed")
            await checks[name](sandbox)
            if checks[name] not in LOST:
                await works(sandbox)
            await sandbox.close()
        except (Exception, pytest.fail.Exception) as error:
            failed[name] = "".join(traceback.format_exception(error)[-2:])

    await asyncio.gather(*(one(name) for name in checks))
    assert failed == {}
    fresh = await backend.start(image, "/testbed")
    await works(fresh)


async def test_container_faults(backend: DockerBackend, calc_image: str) -> None:
    await together(backend, calc_image, {check.__name__: check for check in (*SURVIVED, *LOST)})


async def test_a_paused_container_goes_on(backend: DockerBackend, calc_image: str) -> None:
    """Not beside the others: the engine must fail to run a program in it and restart it before the backend gives it up."""
    await together(backend, calc_image, {"paused_container": paused_container})


async def test_slow_start_is_an_error_and_leaves_nothing(docker_engine: str, images: FolderImages) -> None:
    config = SandboxConfig(docker_host=docker_engine, start_timeout_s=0.05)
    backend = DockerBackend(config, images, f"test{uuid.uuid4().hex[:8]}")
    try:
        with pytest.raises(SandboxStartError, match="cannot start a container"):
            await backend.start("docker:swe-master-base", "/testbed")
    finally:
        await backend.close()
    client = connect(docker_engine, timeout_s=60)
    left = client.containers(all=True, filters={"label": f"{OWNER}={backend._owner}"})
    client.close()
    assert left == []


@pytest.fixture
def busybox_image(docker_engine: str, tmp_path: Path) -> Iterator[str]:
    """An image that holds a static busybox and nothing else: no libc, no bash, no GNU tool."""
    binary = next((path for path in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(path)), shutil.which("busybox"))
    if binary is None:
        pytest.skip("no static busybox here (Debian's busybox-static)")
    for name in ("bin", "tmp", "testbed/pkg", "proc", "dev", "etc"):
        (tmp_path / "root" / name).mkdir(parents=True)
    shutil.copy(binary, tmp_path / "root/bin/busybox")
    for applet in APPLETS.split():
        (tmp_path / "root/bin" / applet).symlink_to("busybox")
    subprocess.run(["tar", "-C", tmp_path / "root", "-cf", tmp_path / "root.tar", "."], check=True, timeout=60)
    client = connect(docker_engine, timeout_s=60)
    client.import_image(str(tmp_path / "root.tar"), repository="swe-master-test-busybox", tag="1")
    yield "docker:swe-master-test-busybox:1"
    client.remove_image("swe-master-test-busybox:1", force=True)
    client.close()


async def test_any_posix_shell_is_enough(busybox_image: str, backend: DockerBackend) -> None:
    await together(backend, busybox_image, {name: FAULTS[name] for name in BUSYBOX_FAULTS})
    sandbox = await backend.start(busybox_image, "/testbed")
    every_byte = bytes(range(256)) * 20
    for size in (1, 20):  # through the shell, and as an archive
        await sandbox.write_file("deep/it's.bin", every_byte * size)
        assert await sandbox.read_file("deep/it's.bin") == every_byte * size
