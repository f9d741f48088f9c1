"""What the next episode's sandbox, and going on with an interrupted one, cost: the ways to do it, measured on one engine.

    python benchmarks/sandbox_reset.py --json

Reset, medians in milliseconds per episode, all of them side by side in one run:
  new        a new container (create, fill, start, open a shell) and the removal of the old one
  restart    the kept container: restarted (ends processes, empties /dev/shm and IPC), folders wiped and filled again,
             verified by the engine's diff
  reset      the kept container: everything but its first process killed, folders wiped and filled again, verified by the
             engine's own list of processes and by its diff
  git        what is often done: `git reset`, `git clean`, kill, wipe of /tmp. Unsafe, see below; only for comparison
  process    process backend: a new copy in new namespaces, and the removal of the old one
Snapshot of an episode of 20 commands:
  commit     `docker commit` of its container, and a container started from it
  replay     a new container, and the 20 commands run again

`unsafe` lists, for each way, what of a hostile episode the next one could still see.

Measured in November 2026 (Docker 20.10, 2 cores, load 10 to 26, 5 rounds): new 1,615, restart 2,833, reset 2,618, git 332,
process 181; commit 573 for each snapshot and 640 to go on; replay 2,016 to go on (process backend 1,035). `restart` and `reset`
left nothing; `git` left a git configuration, files in /var/tmp and at home, a false program in PATH, shared memory and a process.
So a reset that can be trusted costs more engine calls than a new container, and the cheap one cannot be trusted: every episode
gets a new sandbox, and the pool starts it ahead (envpool/pool/warm_sandboxes.py). Commits would cost at every turn; a replay
costs once per death what three or four commits do: episodes go on by replay (envpool/agent/episode_replay.py).
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tarfile
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from configs.sandbox_config import SandboxConfig
from envpool.sandbox import Sandbox
from envpool.sandbox_parts.docker_engine import connect
from envpool.sandbox_parts.image_cache import FolderImages
from envpool.sandboxes.docker_sandbox import DockerBackend, DockerSandbox
from envpool.sandboxes.process_sandbox import ProcessBackend

WORKDIR = "/testbed"
FILES = {f"pkg/part_{number}.py": f"value = {number}\n" * 20 for number in range(60)}
COMMANDS = [f"echo {n} >> log.txt; python3 -c 'print({n})'; grep -rn 'value = {n}' pkg | head -3" for n in range(20)]
SOIL = (
    "echo secret > /testbed/.git/hooks/post-checkout; git config core.pager 'sh -c evil'; echo secret > /var/tmp/left; "
    "echo secret > /root/.profile; echo secret > /usr/local/bin/git; chmod +x /usr/local/bin/git; echo secret > /dev/shm/left; "
    "echo secret > /tmp/left; export LEFT=secret; (setsid sleep 600 >/dev/null 2>&1 &); echo x > /testbed/ignored.pyc"
)
SEEN = {
    "git hook": "cat /testbed/.git/hooks/post-checkout",
    "git configuration": "cat /testbed/.git/config | grep evil && echo secret",
    "file in /var/tmp": "cat /var/tmp/left",
    "file in the home folder": "cat /root/.profile | grep secret",
    "a program of its own first in PATH": "cat /usr/local/bin/git",
    "shared memory": "cat /dev/shm/left",
    "file in /tmp": "cat /tmp/left",
    "shell variable": "echo $LEFT",
    "process": "grep -l 'sleep.600' /proc/[0-9]*/cmdline 2>/dev/null | grep -q . && echo secret",
}
# All but the container's init, its own command (whose number is $1) and this shell.
KILL_ALL = """
while :; do
    found=
    for folder in /proc/[0-9]*; do
        pid=${folder#/proc/}
        if [ "$pid" != 1 ] && [ "$pid" != "$1" ] && [ "$pid" != "$$" ]; then kill -9 "$pid" 2>/dev/null && found=1; fi
    done
    [ -n "$found" ] || exit 0
done
"""
WIPE = "rm -rf /testbed /tmp/.[!.]* /tmp/* /var/tmp/* /dev/shm/*"
GIT_RESET = "git reset -q --hard; git clean -qfdx; rm -rf /tmp/* /tmp/.[!.]*; "


class KeptContainer:
    """One container, used again and again."""

    def __init__(self, client: Any, backend: DockerBackend, tree: Path) -> None:
        self.client, self.backend, self.tree = client, backend, tree
        self.sandbox: DockerSandbox

    async def start(self, image: str) -> None:
        """The first start, and what the engine's diff says of a fresh container."""
        self.image = image
        self.sandbox = await self.backend.start(image, WORKDIR)
        self.fresh = await self._changes()
        self.command = await self.run_inside("cat /proc/1/task/1/children")

    async def run_inside(self, script: str) -> str:
        """In a process of its own, beside the shell; what it said."""
        command = ["/bin/sh", "-c", script, "sh", *getattr(self, "command", "").split()[:1]]
        created = self.client.exec_create(self.sandbox.container, command)
        return bytes(await asyncio.to_thread(self.client.exec_start, created["Id"])).decode()

    async def refill(self) -> None:
        """The image's tree, from outside."""
        with tempfile.TemporaryFile() as packed:
            with tarfile.open(fileobj=packed, mode="w") as archive:
                archive.add(self.tree, arcname=WORKDIR.strip("/"))
            packed.seek(0)
            await asyncio.to_thread(self.client.put_archive, self.sandbox.container, "/", packed.read())

    async def reset(self) -> bool:
        """Kill, wipe, fill, verify; whether nothing else of it changed."""
        await self.run_inside(KILL_ALL)
        await self.run_inside(WIPE)
        await self.refill()
        processes = (await asyncio.to_thread(self.client.top, self.sandbox.container))["Processes"]
        return len(processes) <= 2 and await self._changes() == self.fresh

    async def restart(self) -> bool:
        """As `reset`, with a restart in place of the kill."""
        await asyncio.to_thread(self.client.restart, self.sandbox.container, timeout=0)
        await self.run_inside(WIPE)
        await self.refill()
        return await self._changes() == self.fresh

    async def git(self) -> bool:
        """Without looking at what else changed."""
        await self.run_inside(f"cd {WORKDIR}; {GIT_RESET}{KILL_ALL}")
        return True

    async def _changes(self) -> set[tuple[str, int]]:
        """What differs from the image outside the folders that a reset makes anew."""
        found = await asyncio.to_thread(self.client.diff, self.sandbox.container) or []
        made = ("/testbed/", "/tmp/", "/var/tmp/")
        return {(entry["Path"], entry["Kind"]) for entry in found if not f"{entry['Path']}/".startswith(made)}


async def leftovers(sandbox: Sandbox) -> list[str]:
    """What a hostile episode left that this one can see."""
    return [name for name, command in SEEN.items() if "secret" in (await sandbox.run(command, 30)).output]


async def timed(work: Callable[[], Awaitable[Any]]) -> tuple[float, Any]:
    """Milliseconds and result."""
    started = time.perf_counter()
    result = await work()
    return 1000 * (time.perf_counter() - started), result


class Measurement:
    """Times by way, and what stayed."""

    def __init__(self, images: FolderImages, docker_host: str) -> None:
        owner = f"reset-{uuid.uuid4().hex[:8]}"
        self.image = images.add("reset", FILES)
        self.tree = images.path(self.image)
        self.client = connect(docker_host, 60)
        self.docker = DockerBackend(SandboxConfig(docker_host=docker_host), images, owner)
        self.process = ProcessBackend(SandboxConfig(), images, owner)
        self.times: dict[str, list[float]] = {}
        self.unsafe: dict[str, list[str]] = {}

    def note(self, way: str, milliseconds: float) -> None:
        """One time."""
        self.times.setdefault(way, []).append(milliseconds)

    async def new(self, way: str, backend: DockerBackend | ProcessBackend) -> None:
        """The old one's removal and a new one."""
        old = await backend.start(self.image, WORKDIR)
        await old.run(COMMANDS[0], 60)
        took, sandbox = await timed(lambda: self._replace(old, backend))
        self.note(way, took)
        await sandbox.close()

    async def _replace(self, old: Sandbox, backend: DockerBackend | ProcessBackend) -> Sandbox:
        await old.close()
        return await backend.start(self.image, WORKDIR)

    async def kept(self, way: str, kept: KeptContainer) -> None:
        """A clean episode in a kept container, and its reset with a new shell."""
        await kept.sandbox.run(COMMANDS[0], 60)

        async def work() -> bool:
            same = bool(await getattr(kept, way)())
            await kept.sandbox.run("true", 60)
            return same

        took, same = await timed(work)
        self.note(way, took)
        if not same:
            self.unsafe.setdefault(way, []).append("a clean episode was not recognised as clean")

    async def soiled(self, way: str) -> None:
        """A hostile episode: does the reset notice, and if it does not, what stays?"""
        kept = KeptContainer(self.client, self.docker, self.tree)
        await kept.start(self.image)
        await kept.sandbox.run(SOIL, 60)
        same = await getattr(kept, way)()
        self.unsafe[way] = [*self.unsafe.get(way, []), *(await leftovers(kept.sandbox) if same else [])]
        await kept.sandbox.close()

    async def snapshot(self) -> None:
        """An interrupted episode of 20 commands, by commit and by replay."""
        sandbox = await self.docker.start(self.image, WORKDIR)
        for command in COMMANDS:
            await sandbox.run(command, 60)
        name = f"snapshot-{uuid.uuid4().hex[:8]}"
        took, _ = await timed(lambda: asyncio.to_thread(self.client.commit, sandbox.container, repository=name, pause=True))
        self.note("commit: each snapshot", took)
        took, again = await timed(lambda: self.docker.start(f"docker:{name}", WORKDIR))
        self.note("commit: going on", took)
        await again.close()
        await sandbox.close()
        await asyncio.to_thread(self.client.remove_image, name, force=True)
        for way, backend in (("replay: going on", self.docker), ("replay: going on, process backend", self.process)):
            took, fresh = await timed(lambda backend=backend: self._replay(backend))
            self.note(way, took)
            await fresh.close()

    async def _replay(self, backend: DockerBackend | ProcessBackend) -> Sandbox:
        sandbox = await backend.start(self.image, WORKDIR)
        for command in COMMANDS:
            await sandbox.run(command, 60)
        return sandbox

    async def run(self, rounds: int) -> dict[str, Any]:
        """All ways in turn, `rounds` times."""
        ways = {way: KeptContainer(self.client, self.docker, self.tree) for way in ("restart", "reset", "git")}
        for kept in ways.values():
            await kept.start(self.image)
        for _ in range(rounds):
            await self.new("new", self.docker)
            await self.new("process", self.process)
            for way, kept in ways.items():
                await self.kept(way, kept)
            await self.snapshot()
        for way in ways:
            await self.soiled(way)
        return {
            "rounds": rounds,
            "median_ms": {way: round(statistics.median(values), 1) for way, values in self.times.items()},
            "p95_ms": {way: round(sorted(values)[int(0.95 * (len(values) - 1))], 1) for way, values in self.times.items()},
            "unsafe": self.unsafe,
            "engine": self.client.version()["Version"],
            "load": round(os.getloadavg()[0], 1),
        }

    async def close(self) -> None:
        """Remove everything."""
        await self.docker.close()
        await self.process.close()
        self.client.close()


async def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole run as one record."""
    with tempfile.TemporaryDirectory(prefix="reset-images-") as folder:
        measurement = Measurement(FolderImages(Path(folder)), arguments.docker_host)
        try:
            return await measurement.run(arguments.rounds)
        finally:
            await measurement.close()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--docker-host", default="")
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of a listing")
    arguments = parser.parse_args()
    record = asyncio.run(measure(arguments))
    print(json.dumps(record) if arguments.json else "\n".join(f"{name}: {value}" for name, value in record.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
