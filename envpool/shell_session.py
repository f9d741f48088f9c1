"""One persistent shell over a byte stream: many commands, each framed by its own nonce, with deadline and output cap.

The shell reads from its stdin, for every command,

    print BEGIN-nonce;  eval 'command' </dev/null 2>&1;  print END-nonce, exit code, working directory

so cwd, variables and functions are kept, and what a background process prints between commands is dropped. Only builtins
of POSIX sh are used. A command can end the shell (`exit 3`): the trap prints the end frame and a new shell starts where the
old one stood. At the deadline everything born since the command began is killed; a shell that still does not answer is
replaced. The stream itself is the backend's: pipes of a local process, or the hijacked stream of `docker exec`.
"""

import asyncio
import secrets
import shlex
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from envpool.sandbox import ExecResult
from envpool.sandbox_errors import SandboxError, SandboxLostError

TIMED_OUT_EXIT_CODE = 124
GRACE_S = 1.0  # for the shell to answer once the command's processes are dead
OPEN_S = 30.0
MARK = b"\x1e"


class ShellStream(Protocol):
    """A running shell that reads commands from stdin and whose stdout arrives here."""

    async def read(self) -> bytes:
        """Some bytes of output; b"" when the shell is gone."""
        ...

    async def write(self, data: bytes) -> None:
        """Send to the shell's stdin. OSError when it is gone."""
        ...

    async def kill_younger(self, age_s: float) -> None:
        """SIGKILL every process of the sandbox that started less than `age_s` seconds ago; the shell is spared."""
        ...

    async def end(self, hung: bool = False) -> int:
        """End the shell, if it still runs, with all it started; its exit code (negative: the signal). `hung` says that it
        will not end by itself. Idempotent."""
        ...


@dataclass(frozen=True)
class RawResult:
    """As ExecResult, output undecoded and uncut in the middle (`dropped` bytes are missing between `head` and `tail`)."""

    exit_code: int
    head: bytes
    tail: bytes
    dropped: int
    timed_out: bool
    seconds: float

    def decoded(self) -> ExecResult:
        """The output as text, invalid UTF-8 replaced, with one line that says how much was cut out of the middle."""
        if self.dropped:
            note = f"\n[... {self.dropped} bytes cut ...]\n"
            text = self.head.decode("utf-8", "replace") + note + self.tail.decode("utf-8", "replace")
        else:
            text = (self.head + self.tail).decode("utf-8", "replace")
        return ExecResult(self.exit_code, text, self.dropped > 0, self.timed_out, self.seconds)


class FrameReader:
    """Finds one command's output in the stream and keeps at most `max_bytes` of it: the first half and the last half.

    >>> reader = FrameReader(b"N", 100)
    >>> reader.feed(b"late noise\\x1eN{hello"), reader.feed(b"\\x1eN}0 /testbed\\x1e")
    (False, True)
    >>> bytes(reader.head), reader.exit_code, reader.cwd, reader.shell_ended
    (b'hello', 0, '/testbed', False)
    """

    def __init__(self, nonce: bytes, max_bytes: int) -> None:
        self.head, self.tail, self.dropped = bytearray(), bytearray(), 0
        self.exit_code, self.cwd, self.shell_ended = -1, "", False
        self._begin, self._end = MARK + nonce + b"{", MARK + nonce + b"}"
        self._head_bytes = max_bytes - max_bytes // 2
        self._tail_bytes = max_bytes // 2
        self._pending = b""
        self._began = False

    def feed(self, chunk: bytes) -> bool:
        """Take some bytes; True once the end frame is complete."""
        data = self._pending + chunk
        if not self._began:
            start = data.find(self._begin)
            if start < 0:
                self._pending = data[-len(self._begin) + 1 :]
                return False
            self._began, data = True, data[start + len(self._begin) :]
        end = data.find(self._end)
        if end < 0:
            keep = len(self._end) - 1
            self._keep(data[:-keep])
            self._pending = data[-keep:]
            return False
        self._keep(data[:end])
        fields, mark, _ = data[end + len(self._end) :].partition(MARK)
        if not mark:
            self._pending = data[end:]
            return False
        self._pending = b""
        code, _, cwd = fields.partition(b" ")
        self.shell_ended = code.startswith(b"!")
        self.exit_code = int(code.lstrip(b"!"))
        self.cwd = cwd.decode("utf-8", "surrogateescape")
        return True

    def flush(self) -> None:
        """The stream ended without an end frame: what is pending is output."""
        if self._began:
            self._keep(self._pending)
        self._pending = b""

    def result(self, exit_code: int, timed_out: bool, seconds: float) -> RawResult:
        """What was kept, with an outcome."""
        overflow = max(0, len(self.tail) - self._tail_bytes)
        return RawResult(exit_code, bytes(self.head), bytes(self.tail[overflow:]), self.dropped + overflow, timed_out, seconds)

    def _keep(self, data: bytes) -> None:
        room = self._head_bytes - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        if len(self.tail) > 2 * self._tail_bytes + 65_536:  # trimmed now and then, so memory stays bounded at low cost
            overflow = len(self.tail) - self._tail_bytes
            del self.tail[:overflow]
            self.dropped += overflow


def command_script(command: str, nonce: str) -> bytes:
    """What the shell reads for one command."""
    end = f"\\036{nonce}}}"
    script = (
        f'trap \'command printf "{end}!%s %s\\036" "$?" "$PWD" >&9\' EXIT\n'
        f"command printf '\\036{nonce}{{' >&9\n"
        f"command eval {shlex.quote(command)} </dev/null >&9 2>&1\n"
        f'command printf \'{end}%s %s\\036\' "$?" "$PWD" >&9\n'
    )
    try:
        return script.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair, which a model can write
        return script.encode("utf-8", "replace")


class ShellSession:
    """A shell that outlives its commands. `open_stream` starts one (SandboxLostError when its sandbox is gone).

    `cwd` is where the first shell starts and where a new one falls back to; `prelude` is run in every new shell.
    """

    def __init__(self, open_stream: Callable[[], Awaitable[ShellStream]], cwd: str, prelude: str = ":") -> None:
        self._open_stream = open_stream
        self._first_cwd = self._cwd = cwd
        self._prelude = prelude
        self._stream: ShellStream | None = None
        self._lock = asyncio.Lock()
        self._closed = False
        self.restarts = 0

    async def open(self) -> None:
        """Start the shell. Raises SandboxLostError when it does not answer."""
        async with self._lock:
            await self._open()

    async def run(self, command: str, timeout_s: float, max_output_bytes: int) -> RawResult:
        """Run one command. Raises SandboxLostError when the shell is gone and no new one can be started.

        A caller that is cancelled leaves no half-read stream behind: the next command gets a new shell.
        """
        if "\0" in command:
            return RawResult(2, b"a command cannot contain a NUL byte", b"", 0, False, 0.0)
        async with self._lock:
            if self._stream is None:
                await self._open()
            stream, nonce = self._stream, secrets.token_hex(12)
            assert stream is not None
            reader = FrameReader(nonce.encode(), max_output_bytes)
            try:
                return await self._run(stream, reader, command_script(command, nonce), timeout_s)
            except BaseException:
                self._stream = None
                await asyncio.shield(asyncio.ensure_future(stream.end(hung=True)))
                raise

    async def close(self) -> None:
        """End the shell and all it started; a command that is running raises SandboxLostError. Idempotent."""
        self._closed = True
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.end()

    async def _run(self, stream: ShellStream, reader: FrameReader, script: bytes, timeout_s: float) -> RawResult:
        started = time.monotonic()
        finished = await _exchange(stream, reader, script, timeout_s)
        timed_out = finished is None
        if timed_out:
            await stream.kill_younger(time.monotonic() - started)
            finished = await _exchange(stream, reader, b"", GRACE_S)
        if self._closed:
            raise SandboxLostError("the sandbox was closed while a command ran in it")
        exit_code = reader.exit_code
        if finished and not reader.shell_ended:
            self._cwd = reader.cwd or self._cwd
        else:
            reader.flush()
            self._stream = None
            ended_with = await stream.end(hung=finished is None)
            if not finished:
                exit_code = ended_with if ended_with >= 0 else 128 - ended_with  # as a shell reports a signal
            self._cwd = reader.cwd or self._cwd
            self.restarts += 1
            await self._open()
        seconds = time.monotonic() - started
        return reader.result(TIMED_OUT_EXIT_CODE if timed_out else exit_code, timed_out, seconds)

    async def _open(self) -> None:
        if self._closed:
            raise SandboxLostError("the sandbox is closed")
        stream = await self._open_stream()
        nonce = secrets.token_hex(12)
        reader = FrameReader(nonce.encode(), 4096)
        there = f"cd -- {shlex.quote(self._cwd)} 2>/dev/null || cd -- {shlex.quote(self._first_cwd)}"
        script = b"exec 9>&1\n" + command_script(f"{self._prelude}\n{there}", nonce)
        try:
            finished = await _exchange(stream, reader, script, OPEN_S)
            if not finished or reader.exit_code != 0:
                said = bytes(reader.head).decode("utf-8", "replace").strip() or ("no answer" if finished is None else "it ended")
                raise SandboxLostError(f"a shell in the sandbox cannot start at {self._cwd}: {said}")
            if self._closed:
                raise SandboxLostError("the sandbox was closed while its shell started")
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(stream.end()))
            raise
        self._stream = stream


async def _exchange(stream: ShellStream, reader: FrameReader, script: bytes, timeout_s: float) -> bool | None:
    """Send and read until the end frame: True; False when the shell is gone; None at the deadline."""
    try:
        async with asyncio.timeout(timeout_s):
            if script:
                await stream.write(script)
            while chunk := await stream.read():
                if reader.feed(chunk):
                    return True
            return False
    except TimeoutError:
        return None
    except SandboxError:
        raise
    except OSError:
        return False
