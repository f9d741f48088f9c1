import asyncio
import logging
import os
import signal
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from configs.sandbox_config import SandboxConfig
from envpool.sandbox_errors import ImageMissingError, SandboxLostError, SandboxStartError
from envpool.sandbox_parts.control_groups import ControlGroup, GroupLimits
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandbox_parts.process_tree import live_processes
from envpool.sandbox_parts.sandbox_reaper import sandbox_folder
from envpool.sandboxes import process_sandbox
from envpool.sandboxes.process_sandbox import ProcessBackend, ProcessSandbox, bubblewrap_works
from tests.envpool.sandboxes.sandbox_faults import FAULTS, running_with, runs, unique_seconds, works


@pytest.fixture
def owner() -> str:
    return f"test{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def sandbox(images: FolderImages, calc_image: str, isolation: str, owner: str) -> AsyncIterator[ProcessSandbox]:
    backend = ProcessBackend(SandboxConfig(isolation=isolation), images, owner)
    try:
        yield await backend.start(calc_image, "/testbed")
    finally:
        await backend.close()
        assert folders_of(owner) == []


def users_of_this_machine() -> bytes:
    return Path("/etc/passwd").read_bytes()


def folders_of(owner: str) -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob(f"swe-master-{owner}-*"))


@pytest.mark.parametrize("fault", FAULTS)
async def test_sandbox_survives(sandbox: ProcessSandbox, fault: str) -> None:
    await FAULTS[fault](sandbox)
    await works(sandbox)


@pytest.mark.parametrize("command", ["", "sleep 20"])
async def test_a_namespace_killed_from_outside_is_a_lost_sandbox(
    images: FolderImages, calc_image: str, owner: str, command: str
) -> None:
    if not bubblewrap_works():
        pytest.skip("bubblewrap does not work here")
    backend = ProcessBackend(SandboxConfig(isolation="bubblewrap"), images, owner)
    before = set(children())
    try:
        sandbox = await backend.start(calc_image, "/testbed")
        (namespace,) = set(children()) - before
        running = asyncio.create_task(sandbox.run(command, 30)) if command else None
        await asyncio.sleep(0.2)
        os.kill(namespace, signal.SIGKILL)
        await asyncio.sleep(0.2)  # the shell inside dies a moment later
        with pytest.raises(SandboxLostError, match="killed from outside"):
            await (running or sandbox.run("echo late", 20))
        await sandbox.close()
    finally:
        await backend.close()
    assert folders_of(owner) == []


def children() -> list[int]:
    return [process.pid for process in live_processes() if process.parent == os.getpid()]


async def test_tree_and_environment(sandbox: ProcessSandbox) -> None:
    assert (await sandbox.run("pwd; cat /testbed/pkg/data.txt; git status --short", 20)).output == "/testbed\none\ntwo\nthree\n"
    assert (await sandbox.run("git rev-list --all --count", 20)).output == "1\n"
    assert (await sandbox.run("python3 -c 'import calc; print(calc.add(1, 2))'", 20)).output == "-1\n"
    names = {line.split("=")[0] for line in (await sandbox.run("env", 20)).output.splitlines()}
    assert names - {"PWD", "OLDPWD", "SHLVL", "_", "TMPDIR", "SWE_MASTER_SANDBOX"} == {
        "PATH",
        "HOME",
        "LANG",
        "PYTHONDONTWRITEBYTECODE",
    }


async def test_secret_of_parent_is_absent(
    images: FolderImages, calc_image: str, isolation: str, owner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWE_TEST_SECRET", "hunter2hunter2")
    backend = ProcessBackend(SandboxConfig(isolation=isolation), images, owner)
    sandbox = await backend.start(calc_image, "/testbed")
    try:
        found = await sandbox.run("env; set; cat /proc/self/environ /proc/$PPID/environ | tr '\\0' '\\n'", 20)
        if isolation == "bubblewrap":  # a plain process may read its parent's memory: that is what the warning says
            assert "hunter2hunter2" not in found.output
        assert "hunter2hunter2" not in (await sandbox.run("env; set", 20)).output
    finally:
        await backend.close()


async def test_two_sandboxes_do_not_share(images: FolderImages, calc_image: str, isolation: str, owner: str) -> None:
    backend = ProcessBackend(SandboxConfig(isolation=isolation), images, owner)
    first, second = await asyncio.gather(*(backend.start(calc_image, "/testbed") for _ in range(2)))
    try:
        await first.run("echo changed > calc.py; echo new > new.txt", 20)
        assert (await second.run("git status --short; ls", 20)).output == "calc.py\npkg\n"
        assert (images.path(calc_image) / "calc.py").read_text() == "def add(a, b):\n    return a - b\n"
    finally:
        await backend.close()


async def test_close_leaves_nothing(images: FolderImages, calc_image: str, isolation: str, owner: str) -> None:
    backend = ProcessBackend(SandboxConfig(isolation=isolation), images, owner)
    sandbox = await backend.start(calc_image, "/testbed")
    seconds = unique_seconds()
    await sandbox.run(
        f"sleep {seconds} & (setsid setsid sleep {seconds} >/dev/null 2>&1 &); mkdir locked; touch locked/a; chmod 0 locked", 20
    )
    running = asyncio.create_task(sandbox.run(f"sleep {seconds}", 60))
    await runs(seconds, 3)
    await sandbox.close()
    with pytest.raises(SandboxLostError):
        await running
    assert running_with(seconds) == []
    assert folders_of(owner) == []
    with pytest.raises(SandboxLostError):
        await sandbox.run("true", 5)
    await sandbox.close()


async def test_cancelled_command_is_killed(sandbox: ProcessSandbox) -> None:
    seconds = unique_seconds()
    running = asyncio.create_task(sandbox.run(f"sleep {seconds}", 60))
    await runs(seconds)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert running_with(seconds) == []
    await works(sandbox)


@pytest.mark.parametrize("cut_by", ["its user", "its deadline", "the backend's end"])
async def test_a_start_that_is_cut_while_it_copies_leaves_no_folder(
    images: FolderImages, calc_image: str, owner: str, monkeypatch: pytest.MonkeyPatch, cut_by: str
) -> None:
    began, release, ended = threading.Event(), threading.Event(), threading.Event()
    copy_tree = process_sandbox.copy_tree

    def slow_copy(*arguments: Any) -> None:
        began.set()
        assert release.wait(60)
        try:
            copy_tree(*arguments)
        finally:
            ended.set()

    monkeypatch.setattr(process_sandbox, "copy_tree", slow_copy)
    patience_s = 0.1 if cut_by == "its deadline" else 60
    backend = ProcessBackend(SandboxConfig(isolation="none", start_timeout_s=patience_s), images, owner)
    starting = asyncio.create_task(backend.start(calc_image, "/testbed"))
    assert await asyncio.to_thread(began.wait, 60)
    (sandbox,) = backend._open
    closing = asyncio.create_task(backend.close() if cut_by == "the backend's end" else asyncio.sleep(0))
    if cut_by == "its user":
        starting.cancel()
    async with asyncio.timeout(60):
        while not sandbox.closed:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    expected = {"its user": asyncio.CancelledError, "its deadline": SandboxStartError, "the backend's end": SandboxLostError}
    asyncio.get_running_loop().call_later(0.1, release.set)  # who does not wait for the thread is through with it by then
    with pytest.raises(expected[cut_by]):
        await starting
    await closing
    assert await asyncio.to_thread(ended.wait, 60)
    assert folders_of(owner) == []
    await backend.close()


def test_a_copy_stops_at_the_next_file(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"from/{number}").mkdir(parents=True)
        (tmp_path / f"from/{number}/file").write_text("text")
    asked: list[None] = []
    process_sandbox.copy_tree(tmp_path / "from", tmp_path / "to", lambda: asked.append(None) or len(asked) > 3)
    assert (len(asked), len(list((tmp_path / "to").rglob("file")))) == (4, 3)
    process_sandbox.copy_tree(tmp_path / "from", tmp_path / "whole", lambda: False)
    assert len(list((tmp_path / "whole").rglob("file"))) == 5


async def test_a_sweep_does_not_wait_for_the_loops_threads(images: FolderImages, owner: str) -> None:
    busy = threading.Event()
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    working = asyncio.ensure_future(asyncio.to_thread(busy.wait, 60))
    backend = ProcessBackend(SandboxConfig(isolation="none"), images, owner)
    left = sandbox_folder(owner, set())
    try:
        assert await asyncio.wait_for(backend.sweep(), 30) == 1
        assert not left.exists()
    finally:
        busy.set()
    assert await working
    await backend.close()


async def test_files(sandbox: ProcessSandbox) -> None:
    assert await sandbox.read_file("pkg/data.txt") == b"one\ntwo\nthree\n"
    assert await sandbox.read_file("/testbed/pkg/data.txt", max_bytes=5) == b"one\nt"
    await sandbox.write_file("/testbed/new/deep/file.bin", b"\0\xff\n")
    assert (await sandbox.run("od -An -tx1 new/deep/file.bin", 20)).output == " 00 ff 0a\n"
    await sandbox.write_file("pkg/data.txt", b"short")
    assert (await sandbox.run("cat pkg/data.txt", 20)).output == "short"
    with pytest.raises(FileNotFoundError):
        await sandbox.read_file("absent.txt")
    with pytest.raises(IsADirectoryError):
        await sandbox.read_file("pkg")
    with pytest.raises(IsADirectoryError):
        await sandbox.write_file("pkg", b"")
    with pytest.raises(IsADirectoryError):
        await sandbox.read_file("/testbed")


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "../../etc/passwd", "/testbed/../etc/passwd", "link", "linkdir/passwd", "absolute", "chain", "loop", "pipe"],
)
async def test_file_calls_never_leave_the_tree(sandbox: ProcessSandbox, path: str) -> None:
    await sandbox.run(
        "ln -s ../../../../../etc/passwd link; ln -s /etc linkdir; ln -s /etc/passwd absolute; ln -s link chain", 20
    )
    await sandbox.run("ln -s loop loop; mkfifo pipe", 20)
    before = users_of_this_machine()
    with pytest.raises(PermissionError):
        await sandbox.read_file(path)
    with pytest.raises(OSError, match=r"outside|links|regular|No such device"):
        await sandbox.write_file(path, b"owned")
    assert users_of_this_machine() == before


async def test_links_within_the_tree_are_followed(sandbox: ProcessSandbox) -> None:
    await sandbox.run("ln -s pkg/data.txt inside; ln -s data.txt pkg/again; ln -s pkg folder", 20)
    for path in ("inside", "pkg/again", "folder/data.txt", "folder/../pkg/data.txt"):
        assert await sandbox.read_file(path) == b"one\ntwo\nthree\n"


@pytest.mark.skipif(not bubblewrap_works(), reason="bubblewrap is not installed or may not make namespaces here")
async def test_bubblewrap_isolates(images: FolderImages, calc_image: str, owner: str, tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("secret")
    backend = ProcessBackend(SandboxConfig(isolation="bubblewrap"), images, owner)
    sandbox = await backend.start(calc_image, "/testbed")
    try:
        network = "import socket; socket.create_connection(('1.1.1.1', 80), 3)"
        result = await sandbox.run(f'python3 -c "{network}"', 20)
        assert (result.exit_code, "Network is unreachable" in result.output) == (1, True)
        assert (await sandbox.run(f"cat {tmp_path}/outside.txt", 20)).exit_code == 1
        assert (await sandbox.run("touch /usr/owned /etc/owned", 20)).exit_code == 1
        assert int((await sandbox.run("ls -d /proc/[0-9]* | wc -l", 20)).output) < 10
        assert (await sandbox.run("cat /etc/shadow", 20)).exit_code == 1
        await sandbox.run("echo private > /tmp/note", 20)
        assert await sandbox.read_file("/tmp/note") == b"private\n"
    finally:
        await backend.close()


async def test_plain_sandbox_warns_once(
    images: FolderImages, calc_image: str, owner: str, caplog: pytest.LogCaptureFixture
) -> None:
    process_sandbox.warn_plain.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            backend = ProcessBackend(SandboxConfig(isolation="none"), images, owner)
            await backend.start(calc_image, "/testbed")
            await backend.close()
    assert sum("does not isolate" in record.message for record in caplog.records) == 1


async def test_missing_image_and_wrong_isolation(images: FolderImages, owner: str) -> None:
    with pytest.raises(ImageMissingError, match="folder:absent"):
        await ProcessBackend(SandboxConfig(isolation="none"), images, owner).start("folder:absent", "/testbed")
    with pytest.raises(ValueError, match=r"sandbox\.isolation='jail'"):
        ProcessBackend(SandboxConfig(isolation="jail"), images, owner)


async def test_a_group_that_another_worker_of_the_name_is_starting_stays(
    images: FolderImages, calc_image: str, owner: str
) -> None:
    starting = sandbox_folder(owner, set())  # its sandbox runs nothing yet
    group = ControlGroup(starting.name)
    group.make(GroupLimits(64, 20, 1.0))
    backend = ProcessBackend(SandboxConfig(), images, owner)
    try:
        await works(await backend.start(calc_image, "/testbed"))
        assert all(folder.exists() for _, folder in group._folders)
    finally:
        await backend.close()
        group.remove()
        starting.rmdir()
