"""What a transition model would be shown of a command, and a sandbox that records it beside what the command really did.

Recording does not disturb the agent's shell: files are read through the sandbox's own interface, the diff so far is that of the
files which were written through it, and only a folder that a command names is listed by a `find`.
"""

import difflib
from collections.abc import AsyncIterable, AsyncIterator

from envpool.sandbox import ExecResult, Sandbox
from envpool.sandbox_errors import SandboxError
from envpool.simulation.executed_code import code_to_execute, executes_code
from envpool.simulation.transition_format import ExecutedCommand, ExecutionContext

MAX_RECORDS = 32
"""Executed commands kept of one episode."""
MAX_OUTPUT_CHARS = 20_000
MAX_FILE_BYTES = 262_144


class ExecutionWatch:
    """Follows the edits of one episode, and says what an execution would be simulated from."""

    def __init__(self, problem_statement: str) -> None:
        self._problem_statement = problem_statement
        self._originals: dict[str, str] = {}

    async def before_write(self, sandbox: Sandbox, path: str) -> None:
        """Remember a file as it was before its first edit."""
        if path not in self._originals:
            self._originals[path] = await _text_or_empty(sandbox, path)

    async def context(self, sandbox: Sandbox, command: str) -> ExecutionContext:
        """The command, the files it executes as they are now, the diff so far. Raises SandboxError."""
        code = await code_to_execute(sandbox, command)
        diffs = [_diff(path, text, await _text_or_empty(sandbox, path)) for path, text in self._originals.items()]
        return ExecutionContext(self._problem_statement, command, code, "".join(diffs))


class DelegatingSandbox:
    """A sandbox that does what `inner` does. Subclasses change what a command is."""

    def __init__(self, inner: Sandbox, problem_statement: str) -> None:
        self.inner = inner
        self.watch = ExecutionWatch(problem_statement)

    @property
    def workdir(self) -> str:
        return self.inner.workdir

    async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
        return await self.inner.run(command, timeout_s, max_output_bytes)

    async def read_file(self, path: str, max_bytes: int = 1_048_576) -> bytes:
        return await self.inner.read_file(path, max_bytes)

    async def write_file(self, path: str, data: bytes) -> None:
        await self.watch.before_write(self.inner, path)
        await self.inner.write_file(path, data)

    async def put_tar(self, folder: str, chunks: AsyncIterable[bytes], max_bytes: int = 1 << 30) -> None:
        await self.inner.put_tar(folder, chunks, max_bytes)

    async def get_tar(self, path: str, max_bytes: int = 1 << 30) -> AsyncIterator[bytes]:
        async for chunk in self.inner.get_tar(path, max_bytes):
            yield chunk

    async def close(self) -> None:
        await self.inner.close()


class RecordingSandbox(DelegatingSandbox):
    """Keeps every command that executes code with its context and its real result in `records`; commands that were cut off by
    their deadline or by too much output teach nothing and are left out."""

    def __init__(self, inner: Sandbox, problem_statement: str) -> None:
        super().__init__(inner, problem_statement)
        self.records: list[ExecutedCommand] = []

    async def run(self, command: str, timeout_s: float, max_output_bytes: int = 65_536) -> ExecResult:
        if len(self.records) >= MAX_RECORDS or not executes_code(command):
            return await self.inner.run(command, timeout_s, max_output_bytes)
        context = await self.watch.context(self.inner, command)
        result = await self.inner.run(command, timeout_s, max_output_bytes)
        if not (result.timed_out or result.truncated or len(result.output) > MAX_OUTPUT_CHARS):
            self.records.append(ExecutedCommand(context, result.output, result.exit_code))
        return result


async def _text_or_empty(sandbox: Sandbox, path: str) -> str:
    try:
        return (await sandbox.read_file(path, MAX_FILE_BYTES)).decode("utf-8", "replace")
    except SandboxError:
        raise
    except OSError:
        return ""


def _diff(path: str, before: str, after: str) -> str:
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), f"a/{path}", f"b/{path}", lineterm=""))
    return "".join(f"{line}\n" for line in lines)
