import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.sandbox_config import SandboxConfig
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandbox_parts.local_shell import MARKER
from envpool.sandbox_parts.sandbox_reaper import Lease, kill_strays, reap_folders, remove_folder, sandbox_folder, started_ticks
from envpool.sandboxes.process_sandbox import ProcessBackend
from tests.envpool.sandboxes.sandbox_faults import running_with, unique_seconds

WORKER = """
import asyncio, sys
from pathlib import Path
from configs.sandbox_config import SandboxConfig
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.process_sandbox import ProcessBackend

async def main(images, owner, isolation, image, seconds):
    backend = ProcessBackend(SandboxConfig(isolation=isolation), FolderImages(Path(images)), owner)
    sandbox = await backend.start(image, "/testbed")
    await sandbox.run(f"setsid sleep {seconds} >/dev/null 2>&1 & (setsid sleep {seconds} &) >/dev/null 2>&1", 20)
    print("ready", flush=True)
    await sandbox.run(f"sleep {seconds}", 600)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def owner() -> Iterator[str]:
    name = f"reap{uuid.uuid4().hex[:8]}"
    yield name
    for folder in folders_of(name):
        remove_folder(folder)


def folders_of(owner: str) -> list[Path]:
    return sorted(Path(tempfile.gettempdir()).glob(f"swe-master-{owner}*"))


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(timeout=30)
    return process.pid


def folder(owner: str, process: str) -> Path:
    made = Path(tempfile.gettempdir(), f"swe-master-{owner}-{process}-abcd1234")
    (made / "tree").mkdir(parents=True)
    return made


def test_folders_of_dead_processes_go_and_nothing_else(owner: str) -> None:
    me, gone = os.getpid(), dead_process()
    alive = folder(owner, f"{me}.{started_ticks(me)}")
    other = folder(f"{owner}-{gone}", f"{me}.{started_ticks(me)}")  # its owner's name ends in a dead process's number
    foreign = folder(f"{owner}x", f"{gone}.5")
    foreign.chmod(0o500)
    folder(owner, f"{gone}.5")
    reused = folder(owner, f"{me}.5")  # this process's number, but another start time
    (reused / "tree").chmod(0o000)
    assert reap_folders(owner) == 2
    assert folders_of(owner) == sorted([alive, other, foreign])
    assert reap_folders(owner, in_use={alive}) == 0
    assert reap_folders(owner, in_use=set()) == 1
    assert not alive.exists()


def test_a_new_folder_is_in_use_before_it_exists(owner: str) -> None:
    in_use: set[Path] = set()
    made = sandbox_folder(owner, in_use)
    assert in_use == {made}
    assert made.is_dir()
    assert reap_folders(owner, in_use) == 0


def test_strays_are_found_by_their_environment(owner: str) -> None:
    stray = subprocess.Popen(["sleep", "600"], env={MARKER: f"{owner}-1", "PATH": os.environ["PATH"]}, start_new_session=True)
    spared = subprocess.Popen(["sleep", "600"], env={MARKER: f"{owner}-12", "PATH": os.environ["PATH"]}, start_new_session=True)
    try:
        assert kill_strays({f"{owner}-1"}) == 1
        assert stray.wait(timeout=20) == -signal.SIGKILL
        assert spared.poll() is None
        assert kill_strays(set()) == 0
    finally:
        spared.kill()
        spared.wait(timeout=20)


def test_a_lease_tells_a_dead_process_from_a_living_one() -> None:
    mine = Lease.mine(3)
    assert Lease.parsed(str(mine)) == mine
    assert mine.is_mine()
    assert not mine.is_dead()
    assert Lease(mine.host, mine.pid, "5", "3").is_dead()
    assert not Lease("another-machine", mine.pid, "5", "3").is_dead()
    assert [Lease.parsed(text) for text in ("", "a/b/c/d", "host/1/2")] == [None, None, None]


async def test_a_killed_worker_is_cleaned_up_by_the_next_of_its_name_only(
    images: FolderImages, calc_image: str, owner: str, isolation: str
) -> None:
    seconds, spared_seconds = unique_seconds(), unique_seconds()

    def worker(of: str, seconds: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", WORKER, str(images.root), of, isolation, calc_image, seconds]
        started = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3])
        assert started.stdout is not None
        assert started.stdout.readline() == b"ready\n"
        started.stdout.close()
        return started

    dying, living = await asyncio.gather(
        asyncio.to_thread(worker, owner, seconds), asyncio.to_thread(worker, owner, spared_seconds)
    )
    try:
        assert len(folders_of(owner)) == 2
        dying.kill()
        dying.wait(timeout=20)
        backend = ProcessBackend(SandboxConfig(isolation=isolation), images, owner)  # a third worker of the same name
        sandbox = await backend.start(calc_image, "/testbed")
        assert running_with(seconds) == []
        assert len(running_with(spared_seconds)) >= 2
        assert len(folders_of(owner)) == 2
        await sandbox.close()
        assert await backend.sweep() == 0
        await backend.close()
        assert len(folders_of(owner)) == 1
    finally:
        living.kill()
        living.wait(timeout=20)
    assert reap_folders(owner) == 1
    assert running_with(spared_seconds) == []
    assert folders_of(owner) == []
