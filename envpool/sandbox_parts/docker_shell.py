"""A shell in a container as the byte stream that a ShellSession wants: one hijacked `docker exec` stream, kept open."""

import asyncio
import os
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

from docker.errors import APIError

from envpool.sandbox_errors import SandboxLostError
from envpool.sandbox_parts.docker_engine import ENGINE_ERRORS

Result = TypeVar("Result")
CallEngine = Callable[..., Awaitable[Any]]

STDOUT, STDERR = 1, 2
HEADER_BYTES = 8  # stream number, three zeros, length: the engine's multiplexed frames
CHUNK_BYTES = 262_144
HELLO_S = 10.0
KILL_S = 20.0
KILLED = 40  # the kill script's exit code: one that no replacement of the shell gives by accident
ENDING_S = 3.0  # the engine waits 2 s for a pipe that a background process holds before it calls an exec ended
SHELLS = (("/bin/sh",), ("/bin/bash",), ("/bin/dash",), ("/bin/busybox", "sh"))  # the first may have been replaced
START_SHELL = 'if command -v bash >/dev/null 2>&1; then exec bash --norc --noprofile; else exec "$@"; fi'
HELLO = b'read -r swe_up < /proc/uptime; read -r swe_stat < /proc/$$/stat; echo "$swe_up $swe_stat"; unset swe_up swe_stat\n'
# Kills what was born at or after tick $1 of the container's clock, sparing pid 1, itself and the shell $2. Builtins only.
# A process whose name breaks the line is killed as well. Exit code 1: something was still found in the last round (the shell
# goes on starting processes: it is killed itself when it does not answer afterwards).
KILL_YOUNGER = """
round=0
while [ "$round" -lt 25 ]; do
    round=$((round + 1))
    found=
    for stat in /proc/[0-9]*/stat; do
        { read -r line < "$stat"; } 2>/dev/null || continue
        pid=${line%% *}
        if [ "$pid" = 1 ] || [ "$pid" = "$$" ] || [ "$pid" = "$2" ]; then continue; fi
        born=$(set -f; set -- ${line##*) }; [ "$1" = Z ] && echo 0 || echo "${20:-999999999999}")
        if [ "$born" -ge "$1" ] && kill -9 "$pid" 2>/dev/null; then found=1; fi
    done
    [ -n "$found" ] || exit 40
done
exit 1
"""


class DockerShell:
    """One shell in one running container. `call` runs a blocking engine call in the backend's threads."""

    def __init__(self, client: Any, call: CallEngine, container: str, exec_id: str, raw: Any) -> None:
        self._client, self._call, self._container, self._exec_id = client, call, container, exec_id
        self._raw = raw  # docker's own socket object: it must live as long as its duplicate is used
        self._raw_socket: socket.socket
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter
        self._buffer, self._control = bytearray(), bytearray()
        self._shell_pid = self._shell_born_ticks = 0
        self._clock_offset = 0.0  # the container's uptime minus this process's monotonic clock
        self._exit_code: int | None = None
        self._killed = False  # with its container: what it still said before does not mean that it lives
        self._ending = asyncio.Lock()

    @classmethod
    async def start(cls, client: Any, call: CallEngine, container: str, workdir: str) -> "DockerShell":
        """Open the stream. Raises SandboxLostError when the container does not run."""
        why = "the image needs a POSIX shell"
        for program in SHELLS:
            try:
                return await cls._start(client, call, container, workdir, program)
            except ENGINE_ERRORS as error:
                why = str(error)
                if not isinstance(error, SandboxLostError) and getattr(error, "status_code", 400) in (404, 409, 500):
                    break  # the container is gone or does not run
        raise SandboxLostError(f"no shell can be started in container {container}: {why}")

    @classmethod
    async def _start(cls, client: Any, call: CallEngine, container: str, workdir: str, program: tuple[str, ...]) -> "DockerShell":
        opening = asyncio.ensure_future(call(_open_exec, client, container, workdir, program))
        try:
            exec_id, raw = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_unused)
            raise
        shell = cls(client, call, container, exec_id, raw)
        shell._raw_socket = duplicate = socket.socket(fileno=os.dup(raw.fileno()))
        duplicate.setblocking(False)
        shell._reader, shell._writer = await asyncio.open_connection(sock=duplicate, limit=CHUNK_BYTES)
        try:
            async with asyncio.timeout(HELLO_S):
                await shell._greet()
        except BaseException as error:
            shell.hang_up()
            if isinstance(error, TimeoutError | OSError | ValueError):
                raise SandboxLostError(f"the shell in container {container} does not answer: {error}") from error
            raise
        return shell

    async def read(self) -> bytes:
        while True:
            payload = b"" if self._killed else self._take_frames()
            if payload or not await self._fill():
                return payload

    async def read_control(self) -> bytes:
        while True:
            self._take_frames()
            if self._control or not await self._fill():
                said, self._control = bytes(self._control), bytearray()
                return said

    async def _fill(self) -> bool:
        if self._killed:
            return False
        chunk = await self._reader.read(CHUNK_BYTES)
        self._buffer += chunk
        return bool(chunk)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def wait(self, timeout_s: float) -> None:
        """Nothing: `end` asks the engine until the shell has ended."""

    def hang_up(self) -> None:
        """Close the stream without waiting. While nobody reads it, the engine cannot remove the container."""
        self._writer.close()
        # close() alone would keep the connection: docker's socket object has the same one open a second time.
        with suppress(OSError):
            self._raw_socket.shutdown(socket.SHUT_RDWR)
        _close(self._raw)

    async def kill_younger(self, age_s: float) -> None:
        born_after = int((time.monotonic() - age_s + self._clock_offset) * 100)
        if await self._kill(born_after, self._shell_pid) not in (KILLED, 1):
            await self._restart_container()
            self._killed = True

    async def _kill(self, born_after: int, spared: int) -> int:
        """Kill what was born since; KILLED, 1 when something still was alive, else that it could not be tried."""
        try:
            async with asyncio.timeout(KILL_S):
                return int(await self._call(_run_kill, self._client, self._container, born_after, spared))
        except (*ENGINE_ERRORS, TimeoutError):
            return -1  # no process left for another exec, or the engine is stuck: a restart says which

    async def end(self, hung: bool = False) -> int:
        async with self._ending:
            if self._exit_code is None:
                self.hang_up()
                # The container's own process is older than any shell.
                if hung and await self._kill(self._shell_born_ticks, spared=0) != KILLED:
                    await self._restart_container()
                    self._exit_code = -9
                    return self._exit_code
                self._exit_code = await self._await_end()
            return self._exit_code

    async def _greet(self) -> None:
        await self.write(HELLO)
        said = b""
        while b"\n" not in said:
            chunk = await self.read()
            if not chunk:
                raise ValueError("it ended at once; the image needs a POSIX shell")
            said += chunk
        fields = said.split()  # uptime, idle time, then /proc/PID/stat
        self._clock_offset = float(fields[0]) - time.monotonic()
        self._shell_pid, self._shell_born_ticks = int(fields[2]), int(fields[23])

    def _take_frames(self) -> bytes:
        """Payloads of stdout that are complete in the buffer, joined; those of stderr are put aside."""
        payloads, position = [], 0
        while len(self._buffer) - position >= HEADER_BYTES:
            stream, length = struct.unpack_from(">BxxxL", self._buffer, position)
            end = position + HEADER_BYTES + length
            if len(self._buffer) < end:
                break
            if stream == STDOUT:
                payloads.append(bytes(self._buffer[position + HEADER_BYTES : end]))
            elif stream == STDERR and len(self._control) < CHUNK_BYTES:
                self._control += self._buffer[position + HEADER_BYTES : end]
            position = end
        del self._buffer[:position]
        return b"".join(payloads)

    async def _await_end(self) -> int:
        """The exit code of a shell that ended; one that goes on is ended by restarting its container."""
        deadline = time.monotonic() + ENDING_S
        try:
            while True:
                state = await self._call(self._client.exec_inspect, self._exec_id)
                if not state["Running"]:
                    return int(state["ExitCode"] or 0)
                if time.monotonic() > deadline:
                    break
                await asyncio.sleep(0.05)
        except ENGINE_ERRORS as error:
            raise SandboxLostError(f"container {self._container} is gone: {error}") from error
        await self._restart_container()
        return -9

    async def _restart_container(self) -> None:
        try:
            async with asyncio.timeout(KILL_S):
                await self._call(self._client.restart, self._container, timeout=0)
        except (*ENGINE_ERRORS, TimeoutError) as error:
            raise SandboxLostError(f"container {self._container} cannot be restarted: {error or 'deadline passed'}") from error


def _open_exec(client: Any, container: str, workdir: str, program: tuple[str, ...]) -> tuple[str, Any]:
    command = [*program, "-c", START_SHELL, "start", *program]
    created = client.exec_create(container, command, stdin=True, stdout=True, stderr=True, tty=False, workdir=workdir)
    return created["Id"], client.exec_start(created["Id"], socket=True)


def _close(raw: Any) -> None:
    with suppress(OSError):
        raw._response.close()  # docker hangs it there; the descriptor stays open until both are closed
    with suppress(OSError):
        raw.close()


def _close_unused(opening: "asyncio.Future[tuple[str, Any]]") -> None:
    """A stream that came after its user was cancelled; left alone, its descriptor would wait for the garbage collector."""
    if not opening.cancelled() and opening.exception() is None:
        _close(opening.result()[1])


def _run_kill(client: Any, container: str, born_after: int, shell_pid: int) -> int:
    """The kill script in the first shell that runs it; its exit code, or -1."""
    for shell in SHELLS:
        command = [*shell, "-c", KILL_YOUNGER, "kill-younger", str(born_after), str(shell_pid)]
        created = client.exec_create(container, command)
        with suppress(APIError):  # 400: no such program
            client.exec_start(created["Id"])
        code = client.exec_inspect(created["Id"])["ExitCode"]
        if code in (KILLED, 1):
            return int(code)
    return -1
