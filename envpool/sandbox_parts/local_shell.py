"""A shell that is a process of this machine, as the byte stream that a ShellSession wants."""

import asyncio
import os
import select
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO

from envpool.sandbox_errors import SandboxLostError
from envpool.sandbox_parts.process_tree import CLOCK_TICKS, children_of, kill_all, now_ticks

MARKER = "SWE_MASTER_SANDBOX"  # in the environment of every process of a plain sandbox, so that strays are found again
CHUNK_BYTES = 65_536  # what a pipe holds
POLL_S = 0.5
ENDING_POLL_S = 0.002
DEATH_S = 0.05  # from the end of the output of a bubblewrap that was killed to its exit code
KILL_S = 10.0


class LocalShell:
    """The ShellStream of a local process, in one of two forms.

    `marker` None: `command` is bubblewrap, and the pid namespace ends everything. Nothing inside can reach bubblewrap's own
    process: when a signal ends it, reading and writing raise SandboxLostError. Otherwise `command` is the shell itself with
    `MARKER=marker` in its environment; by that, processes that left its tree are found.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", marker: str | None) -> None:
        self._process = process
        self._marker = None if marker is None else f"{MARKER}={marker}".encode()
        self._waiting: set[asyncio.Future[None]] = set()
        self._init_pid = self._init_fd = -1  # the namespace's first process, known once the shell has said something
        self._ended: asyncio.Future[int] | None = None

    @classmethod
    async def start(cls, command: list[str], cwd: Path, environment: dict[str, str], marker: str | None) -> "LocalShell":
        """Start `command` in a session of its own. OSError when it cannot be started.

        Popen runs in the loop's thread: bubblewrap's --die-with-parent means the thread that started it.
        """
        process = subprocess.Popen(  # noqa: ASYNC220
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        # Not connect_read_pipe: uvloop, which is the loop of Ray's actors, closes such a pipe twice, and the second closing hits
        # whatever another thread opened in between.
        for pipe in _pipes(process):
            os.set_blocking(pipe.fileno(), False)
        return cls(process, marker)

    async def read(self) -> bytes:
        return await self._read(_pipes(self._process)[1])

    async def read_control(self) -> bytes:
        return await self._read(_pipes(self._process)[2])

    async def _read(self, pipe: IO[bytes]) -> bytes:
        while not pipe.closed:
            chunk = pipe.read(CHUNK_BYTES)
            if chunk is None:
                try:
                    async with asyncio.timeout(POLL_S):
                        await self._ready(pipe.fileno(), write=False)
                except TimeoutError:
                    if self._process.poll() is not None:
                        break  # a background process holds the pipe open though the shell is gone
                continue
            if self._marker is None and self._init_fd < 0 and self._ended is None:
                self._find_init()
            if chunk:
                return chunk
            break
        await self._check_alive()
        return b""

    async def write(self, data: bytes) -> None:
        pipe, view = self._process.stdin, memoryview(data)
        assert pipe is not None
        while view:
            if pipe.closed:
                raise BrokenPipeError("the shell has ended")
            try:
                view = view[os.write(pipe.fileno(), view) :]
            except BlockingIOError:
                await self._ready(pipe.fileno(), write=True)
            except BrokenPipeError:
                await self._check_alive()
                raise

    async def _check_alive(self) -> None:
        """Raise SandboxLostError when somebody outside killed the namespace."""
        if self._marker is None and self._ended is None:
            await self.wait(DEATH_S)
            if (exit_code := self._process.poll()) is not None and exit_code < 0:
                raise SandboxLostError(f"a sandbox's bubblewrap was killed from outside (signal {-exit_code})")

    async def wait(self, timeout_s: float) -> None:
        for _ in range(int(timeout_s / ENDING_POLL_S)):
            if self._process.poll() is not None:
                return
            await asyncio.sleep(ENDING_POLL_S)

    async def kill_younger(self, age_s: float) -> None:
        shell = children_of(self._init_pid)[:1] if self._init_pid > 0 else []
        spared = frozenset([self._init_pid, *shell])
        born_after = now_ticks() - int(age_s * CLOCK_TICKS) - 1
        await asyncio.to_thread(kill_all, self._process.pid, self._marker, born_after, spared)

    def hang_up(self) -> None:
        """Nothing: `end` is quick and closes the pipes."""

    async def end(self, hung: bool = False) -> int:
        # Once only, whoever is cancelled meanwhile: a second closing of a descriptor would hit whatever got its number.
        if self._ended is None:
            exit_code = self._process.poll()
            self._close_pipes()
            self._ended = asyncio.ensure_future(asyncio.to_thread(self._end, exit_code))
        return await asyncio.shield(self._ended)

    async def _ready(self, descriptor: int, write: bool) -> None:
        """Wait until the pipe can be read or written, or is closed by `end`."""
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        (loop.add_writer if write else loop.add_reader)(descriptor, wake)
        self._waiting.add(ready)
        try:
            await ready
        finally:
            if ready in self._waiting:  # else the pipe is closed, and its number may belong to another by now
                self._waiting.discard(ready)
                (loop.remove_writer if write else loop.remove_reader)(descriptor)

    def _close_pipes(self) -> None:
        """In the loop's thread, with nobody left who waits for them."""
        loop = asyncio.get_running_loop()
        stdin, *outputs = _pipes(self._process)
        loop.remove_writer(stdin.fileno())
        for pipe in outputs:
            loop.remove_reader(pipe.fileno())
        waiting, self._waiting = self._waiting, set()
        for ready in waiting:
            if not ready.done():
                ready.set_result(None)
        for pipe in (stdin, *outputs):
            pipe.close()

    def _find_init(self) -> None:
        for pid in children_of(self._process.pid)[:1]:
            with suppress(OSError):
                self._init_fd = os.pidfd_open(pid)
                self._init_pid = pid

    def _end(self, exit_code: int | None) -> int:
        """Kill what is left and wait until it is gone: some milliseconds."""
        process = self._process
        if self._marker is not None:
            kill_all(process.pid, self._marker)
        init_fd, self._init_fd = self._init_fd, -1
        if init_fd >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(init_fd, signal.SIGKILL)
            dead = select.poll()  # readable once all of the namespace is dead; select() would stop at descriptor 1024
            dead.register(init_fd, select.POLLIN)
            dead.poll(KILL_S * 1000)
            os.close(init_fd)
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        try:
            ended_with = process.wait(timeout=KILL_S)
        except subprocess.TimeoutExpired as error:
            raise SandboxLostError(f"process {process.pid} of a sandbox does not die") from error
        return ended_with if exit_code is None else exit_code


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    return process.stdin, process.stdout, process.stderr
