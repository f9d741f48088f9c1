"""One persistent shell over a byte stream: many commands, each framed by its own nonce, with deadline and output cap.

The shell reads from its stdin, for every command, one compound of POSIX builtins

    { print BEGIN-nonce;  eval 'command' </dev/null 2>&1;  tell nonce, exit code, cwd;  print END-nonce; }

so cwd, variables and functions are kept, and what a background process prints between commands is dropped. `tell` goes to the
control channel, a stream beside the output (the shell's own stderr) whose descriptor no command inherits: what a command
prints, be it the frame itself, cannot change its exit code. (A process of the same user can still reach into the shell through
/proc or ptrace: what must be trusted runs in a sandbox where no untrusted command ran before.)

A command can end the shell (`exit 3`): the trap says where it stood, the stream says with which exit code, and a new shell
starts there. At the deadline, and after too many bytes of output, everything born since the command began is killed; a shell
that still does not answer is replaced. The streams are the backend's: pipes of a local process, or the hijacked stream of
`docker exec`.
"""

import asyncio
import re
import secrets
import shlex
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from envpool.sandbox import ExecResult
from envpool.sandbox_errors import SandboxError, SandboxLostError

TIMED_OUT_EXIT_CODE = 124
FLOODED_EXIT_CODE = 137  # as of any command that SIGKILL ended
FLOOD_BYTES = 64 << 20
GRACE_S = 5.0  # for the shell to answer once the command's processes are dead; a loop of its own makes it wait in full
OPEN_S = 30.0
MARK = b"\x1e"
MAX_CONTROL_BYTES = 65_536
MAX_CWD_BYTES = 4096


class ShellStream(Protocol):
    """A running shell that reads commands from stdin and whose stdout and stderr arrive here, apart from each other."""

    async def read(self) -> bytes:
        """Some bytes of stdout; b"" when the shell is gone."""
        ...

    async def read_control(self) -> bytes:
        """Some bytes of stderr; b"" when the shell is gone. Stdout that comes meanwhile may be dropped."""
        ...

    async def write(self, data: bytes) -> None:
        """Send to the shell's stdin. OSError when it is gone."""
        ...

    async def wait(self, timeout_s: float) -> None:
        """Until a shell that is ending by itself has ended, at most so long."""
        ...

    async def kill_younger(self, age_s: float) -> None:
        """SIGKILL every process of the sandbox that started less than `age_s` seconds ago; the shell is spared."""
        ...

    def hang_up(self) -> None:
        """Stop listening, at once; the shell is not waited for."""
        ...

    async def end(self, hung: bool = False) -> int:
        """End the shell, if it still runs, with all it started; its exit code (negative: the signal). `hung` says that it
        will not end by itself. Idempotent."""
        ...


@dataclass(frozen=True)
class RawResult:
    """As ExecResult, output undecoded and uncut in the middle (`dropped` bytes are missing between `head` and `tail`).
    `flooded`: it was stopped because it printed too much."""

    exit_code: int
    head: bytes
    tail: bytes
    dropped: int
    timed_out: bool
    seconds: float
    flooded: bool = False

    def decoded(self) -> ExecResult:
        """The output as text, invalid UTF-8 replaced, with one line that says how much was cut out of the middle."""
        if self.dropped or self.flooded:
            why = "; the command was stopped, it prints too much" if self.flooded else ""
            note = f"\n[... {self.dropped} bytes cut{why} ...]\n"
            text = self.head.decode("utf-8", "replace") + note + self.tail.decode("utf-8", "replace")
        else:
            text = (self.head + self.tail).decode("utf-8", "replace")
        return ExecResult(self.exit_code, text, self.dropped > 0, self.timed_out, self.seconds)


class FrameReader:
    """Finds one command's output in the stream and keeps at most `max_bytes` of it: the first half and the last half.
    Its exit code and working directory come over the control channel.

    >>> reader = FrameReader(b"N", 100)
    >>> reader.feed(b"late noise\\x1eN{hello"), reader.feed(b"\\x1eN}")
    (False, True)
    >>> reader.feed_control(b"noise\\x1eN0 /testbed\\x1e")
    True
    >>> bytes(reader.head), reader.exit_code, reader.cwd, reader.shell_ended
    (b'hello', 0, '/testbed', False)

    A shell that ends says so in its output: `\\x1eN!/testbed\\x1e`.
    """

    def __init__(self, nonce: bytes, max_bytes: int) -> None:
        self.head, self.tail, self.dropped = bytearray(), bytearray(), 0
        self.exit_code, self.cwd, self.shell_ended = -1, "", False
        self.output_ended = False
        self._begin, self._mark = MARK + nonce + b"{", MARK + nonce
        self._end = re.compile(re.escape(self._mark) + rb"(?:\}|!([^\x1e]{0,%d})\x1e)" % MAX_CWD_BYTES)
        self._head_bytes = max_bytes - max_bytes // 2
        self._tail_bytes = max_bytes // 2
        self._pending = self._control = b""
        self._began = False

    @property
    def num_bytes(self) -> int:
        """How much the command has printed so far."""
        return len(self.head) + len(self.tail) + self.dropped

    def feed(self, chunk: bytes) -> bool:
        """Take some bytes of output; True once its end is found."""
        data = self._pending + chunk
        if not self._began:
            start = data.find(self._begin)
            if start < 0:
                self._pending = data[-len(self._begin) + 1 :]
                return False
            self._began, data = True, data[start + len(self._begin) :]
        end = self._end.search(data)
        if end is None:
            start = data.rfind(self._mark)
            if start < 0 or len(data) - start > len(self._mark) + MAX_CWD_BYTES + 1:
                start = max(0, len(data) - len(self._mark) + 1)
            self._keep(data[:start])
            self._pending = data[start:]
            return False
        self._keep(data[: end.start()])
        self._pending, self.output_ended = b"", True
        if end[1] is not None:
            self.shell_ended, self.cwd = True, end[1].decode("utf-8", "surrogateescape")
        return True

    def feed_control(self, chunk: bytes) -> bool:
        """Take some bytes of the control channel; True once the outcome is told."""
        noise, told, rest = (self._control + chunk).rpartition(self._mark)
        fields, mark, _ = rest.partition(MARK)
        code, _, cwd = fields.partition(b" ")
        if not (told and mark and code.isdigit()):
            self._control = (noise + told + rest)[-MAX_CONTROL_BYTES:]
            return False
        self.exit_code = int(code)
        self.cwd = cwd.decode("utf-8", "surrogateescape")
        return True

    @property
    def control_noise(self) -> str:
        """What came over the control channel without telling anything: complaints of a shell that cannot start."""
        return self._control.decode("utf-8", "replace").strip()

    def flush(self) -> None:
        """The stream ended without an end frame: what is pending is output."""
        if self._began:
            self._keep(self._pending)
        self._pending = b""

    def result(self, exit_code: int, timed_out: bool, seconds: float, flooded: bool = False) -> RawResult:
        """What was kept, with an outcome."""
        overflow = max(0, len(self.tail) - self._tail_bytes)
        tail = bytes(self.tail[overflow:])
        return RawResult(exit_code, bytes(self.head), tail, self.dropped + overflow, timed_out, seconds, flooded)

    def _keep(self, data: bytes) -> None:
        room = self._head_bytes - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        if len(self.tail) > 2 * self._tail_bytes + 65_536:  # trimmed now and then, so memory stays bounded at low cost
            overflow = len(self.tail) - self._tail_bytes
            del self.tail[:overflow]
            self.dropped += overflow


def command_script(command: str, nonce: str) -> bytes:
    """What the shell reads for one command. One compound: it is parsed as a whole, so that no frame waits in the shell's stdin
    while the command runs, and descriptors 8 and 9 are closed in all that the command starts."""
    script = (
        f'{{ trap \'command printf "\\036{nonce}!%s\\036" "$PWD"\' EXIT\n'
        f"command printf '\\036{nonce}{{' >&9\n"
        f"command eval {shlex.quote(command)} </dev/null >&9 2>&1 8>&- 9>&-\n"
        f"command printf '\\036{nonce}%s %s\\036' \"$?\" \"$PWD\" >&8; command printf '\\036{nonce}}}' >&9\n}}\n"
    )
    try:
        return script.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a surrogate pair, which a model can write
        return script.encode("utf-8", "replace")


class Progress(Enum):
    """How far an exchange with the shell came."""

    FINISHED = "the end frame is there"
    GONE = "the stream ended"
    DEADLINE = "nothing more came in time"
    FLOOD = "it printed more than it may"


class ShellSession:
    """A shell that outlives its commands. `open_stream` starts one (SandboxLostError when its sandbox is gone).

    `cwd` is where the first shell starts and where a new one falls back to; `prelude` is run in every new shell. A command that
    prints more than `flood_bytes` is stopped.
    """

    def __init__(
        self, open_stream: Callable[[], Awaitable[ShellStream]], cwd: str, prelude: str = ":", flood_bytes: int = FLOOD_BYTES
    ) -> None:
        self._open_stream, self._flood_bytes = open_stream, flood_bytes
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
                try:
                    await asyncio.shield(asyncio.ensure_future(stream.end(hung=True)))
                finally:
                    self._stream = None  # only now: `close` waits for a stream that is ending
                raise

    def abandon(self) -> None:
        """As the first step of closing a sandbox: no command begins any more, and a stream that can be hung up is."""
        self._closed = True
        if self._stream is not None:
            self._stream.hang_up()

    async def close(self) -> None:
        """End the shell and all it started, also one that is just starting or being replaced; a command that is running raises
        SandboxLostError. Idempotent."""
        self._closed = True
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.end()

    async def _run(self, stream: ShellStream, reader: FrameReader, script: bytes, timeout_s: float) -> RawResult:
        started = time.monotonic()
        came = first = await _exchange(stream, reader, script, timeout_s, self._flood_bytes)
        if first in (Progress.DEADLINE, Progress.FLOOD):
            await stream.kill_younger(time.monotonic() - started)
            came = await _exchange(stream, reader, b"", GRACE_S)
        if self._closed:
            raise SandboxLostError("the sandbox was closed while a command ran in it")
        exit_code = reader.exit_code
        if came is Progress.FINISHED:
            self._cwd = reader.cwd or self._cwd
        else:
            reader.flush()
            ended_with = await stream.end(hung=came is Progress.DEADLINE)
            self._stream = None
            exit_code = ended_with if ended_with >= 0 else 128 - ended_with  # as a shell reports a signal
            self._cwd = reader.cwd or self._cwd
            self.restarts += 1
            await self._open()
        seconds = time.monotonic() - started
        exit_code = STOPPED_EXIT_CODES.get(first, exit_code)
        return reader.result(exit_code, first is Progress.DEADLINE, seconds, first is Progress.FLOOD)

    async def _open(self) -> None:
        if self._closed:
            raise SandboxLostError("the sandbox is closed")
        stream = self._stream = await self._open_stream()
        nonce = secrets.token_hex(12)
        reader = FrameReader(nonce.encode(), 4096)
        there = f"cd -- {shlex.quote(self._cwd)} 2>/dev/null || cd -- {shlex.quote(self._first_cwd)}"
        script = b"exec 9>&1 8>&2 2>/dev/null\n" + command_script(f"{self._prelude}\n{there}", nonce)
        try:
            came = await _exchange(stream, reader, script, OPEN_S)
            if self._closed:
                raise SandboxLostError("the sandbox was closed while its shell started")
            if came is not Progress.FINISHED or reader.exit_code != 0:
                said = bytes(reader.head).decode("utf-8", "replace").strip() or reader.control_noise or came.value
                raise SandboxLostError(f"a shell in the sandbox cannot start at {self._cwd}: {said}")
        except BaseException:
            try:
                await asyncio.shield(asyncio.ensure_future(stream.end()))
            finally:
                self._stream = None
            raise


STOPPED_EXIT_CODES = {Progress.DEADLINE: TIMED_OUT_EXIT_CODE, Progress.FLOOD: FLOODED_EXIT_CODE}


async def _exchange(
    stream: ShellStream, reader: FrameReader, script: bytes, timeout_s: float, flood_bytes: int | None = None
) -> Progress:
    """Send and read until the end frame and the outcome are there, or it ends otherwise."""
    try:
        async with asyncio.timeout(timeout_s):
            if script:
                await stream.write(script)
            while not reader.output_ended:
                chunk = await stream.read()
                if not chunk:
                    return await _last_words(stream, reader)
                reader.feed(chunk)
                if flood_bytes is not None and reader.num_bytes > flood_bytes:
                    return Progress.FLOOD
            if reader.shell_ended:
                await stream.wait(GRACE_S)
                return Progress.GONE
            while chunk := await stream.read_control():
                if reader.feed_control(chunk):
                    return Progress.FINISHED
            return Progress.GONE
    except TimeoutError:
        return Progress.DEADLINE
    except SandboxError:
        raise
    except OSError:
        return Progress.GONE


async def _last_words(stream: ShellStream, reader: FrameReader) -> Progress:
    """The output ended: what the shell told, or complained of, before it died."""
    while chunk := await stream.read_control():
        reader.feed_control(chunk)
    return Progress.GONE
