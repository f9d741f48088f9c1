"""A shell that is a process of this machine, as the byte stream that a ShellSession wants."""

import asyncio
import os
import select
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from envpool.process_tree import CLOCK_TICKS, children_of, kill_all, now_ticks
from envpool.sandbox_errors import SandboxLostError

MARKER = "SWE_MASTER_SANDBOX"  # in the environment of every process of a plain sandbox, so that strays are found again
CHUNK_BYTES = 262_144
POLL_S = 0.5
KILL_S = 10.0


class LocalShell:
    """The ShellStream of a local process, in one of two forms.

    `marker` None: `command` is bubblewrap, and the pid namespace ends everything. Otherwise `command` is the shell itself
    with `MARKER=marker` in its environment; by that, processes that left its tree are found.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", reader: asyncio.StreamReader, marker: str | None) -> None:
        self._process, self._reader = process, reader
        self._marker = None if marker is None else f"{MARKER}={marker}".encode()
        self._transport: asyncio.ReadTransport | None = None
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
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        assert process.stdin is not None
        os.set_blocking(process.stdin.fileno(), False)
        reader = asyncio.StreamReader(limit=CHUNK_BYTES)
        shell = cls(process, reader, marker)
        shell._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), process.stdout
        )
        return shell

    async def read(self) -> bytes:
        while True:
            try:
                async with asyncio.timeout(POLL_S):
                    chunk = await self._reader.read(CHUNK_BYTES)
            except TimeoutError:
                if self._process.poll() is None:
                    continue
                return b""  # a background process holds the pipe open though the shell is gone
            if self._marker is None and self._init_fd < 0 and self._ended is None:
                self._find_init()
            return chunk

    async def write(self, data: bytes) -> None:
        if self._process.stdin is None or self._process.stdin.closed:
            raise BrokenPipeError("the shell has ended")
        descriptor, view = self._process.stdin.fileno(), memoryview(data)
        while view:
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                await _until_writable(descriptor)

    async def kill_younger(self, age_s: float) -> None:
        shell = children_of(self._init_pid)[:1] if self._init_pid > 0 else []
        spared = frozenset([self._init_pid, *shell])
        born_after = now_ticks() - int(age_s * CLOCK_TICKS) - 1
        await asyncio.to_thread(kill_all, self._process.pid, self._marker, born_after, spared)

    async def end(self, hung: bool = False) -> int:
        # Once only, whoever is cancelled meanwhile: a second closing of a descriptor would hit whatever got its number.
        if self._ended is None:
            if self._transport is not None:
                self._transport.close()
            self._ended = asyncio.ensure_future(asyncio.to_thread(self._end))
        return await asyncio.shield(self._ended)

    def _find_init(self) -> None:
        for pid in children_of(self._process.pid)[:1]:
            with suppress(OSError):
                self._init_fd = os.pidfd_open(pid)
                self._init_pid = pid

    def _end(self) -> int:
        """Kill what is left and wait until it is gone: some milliseconds."""
        process = self._process
        exit_code = process.poll()
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
        assert process.stdin is not None
        process.stdin.close()
        try:
            ended_with = process.wait(timeout=KILL_S)
        except subprocess.TimeoutExpired as error:
            raise SandboxLostError(f"process {process.pid} of a sandbox does not die") from error
        return ended_with if exit_code is None else exit_code


async def _until_writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    writable: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not writable.done():
            writable.set_result(None)

    loop.add_writer(descriptor, wake)
    try:
        await writable
    finally:
        loop.remove_writer(descriptor)
