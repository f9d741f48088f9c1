import asyncio
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.sandbox_errors import SandboxLostError
from envpool.sandbox_parts.local_shell import LocalShell
from envpool.sandbox_parts.shell_session import FrameReader, RawResult, ShellSession
from tests.envpool.sandboxes.sandbox_faults import runs, unique_seconds


def fed(stream: bytes, max_bytes: int, cuts: list[int]) -> tuple[FrameReader, bool]:
    reader = FrameReader(b"N0NCE", max_bytes)
    positions = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    done = [reader.feed(stream[start:end]) for start, end in pairwise(positions)]
    assert not any(done[:-1])
    return reader, done[-1]


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 300), st.lists(st.integers(0, 1000), max_size=8))
def test_frame_is_found_however_the_stream_is_cut(noise: bytes, output: bytes, code: int, cuts: list[int]) -> None:
    reader, done = fed(noise + b"\x1eN0NCE{" + output + b"\x1eN0NCE}", 1000, cuts)
    assert done
    assert (reader.head + reader.tail, reader.output_ended, reader.exit_code) == (output, True, -1)


@given(st.binary(max_size=50), st.lists(st.integers(0, 1000), max_size=8))
def test_end_of_the_shell_is_found_however_the_stream_is_cut(output: bytes, cuts: list[int]) -> None:
    reader, done = fed(b"\x1eN0NCE{" + output + b"\x1eN0NCE!/a b\x1e", 1000, cuts)
    assert done
    assert (reader.head + reader.tail, reader.shell_ended, reader.cwd) == (output, True, "/a b")


@given(st.binary(max_size=100), st.integers(0, 300), st.lists(st.integers(0, 1000), max_size=8))
def test_outcome_is_found_however_the_control_channel_is_cut(noise: bytes, code: int, cuts: list[int]) -> None:
    reader = FrameReader(b"N0NCE", 10)
    told = noise + b"\x1eN0NCE" + str(code).encode() + b" /a b\x1e"
    positions = sorted({0, len(told), *(cut % (len(told) + 1) for cut in cuts)})
    done = [reader.feed_control(told[start:end]) for start, end in pairwise(positions)]
    assert done == [False] * (len(done) - 1) + [True]
    assert (reader.exit_code, reader.cwd, reader.shell_ended) == (code, "/a b", False)


@given(st.binary(max_size=400), st.integers(0, 300), st.lists(st.integers(0, 1000), max_size=8))
def test_first_and_last_bytes_are_kept(output: bytes, max_bytes: int, cuts: list[int]) -> None:
    reader, done = fed(b"\x1eN0NCE{" + output + b"\x1eN0NCE}", max_bytes, cuts)
    result = reader.result(7, False, 0.0)
    assert (done, reader.num_bytes, result.exit_code) == (True, len(output), 7)
    assert len(result.head + result.tail) + result.dropped == len(output)
    if len(output) <= max_bytes:
        assert result.head + result.tail == output
    else:
        assert len(result.head + result.tail) == max_bytes
        assert output.startswith(result.head)
        assert output.endswith(result.tail)


def test_memory_stays_bounded() -> None:
    reader = FrameReader(b"N", 100)
    reader.feed(b"\x1eN{")
    for _ in range(200):
        reader.feed(b"x" * 100_000)
        assert len(reader.head) + len(reader.tail) < 300_000
    assert reader.result(0, True, 0.0).dropped == pytest.approx(20_000_000 - 100, abs=10)  # a few bytes wait for an end frame


def test_decoding_says_what_was_cut() -> None:
    assert RawResult(0, b"ab\xff", b"yz", 10, False, 0.0).decoded().output == "ab\ufffd\n[... 10 bytes cut ...]\nyz"
    assert RawResult(0, "é".encode()[:1], "é".encode()[1:], 0, False, 0.0).decoded().output == "é"  # the halves meet
    stopped = RawResult(137, b"a", b"z", 5, False, 0.0, flooded=True).decoded()
    assert stopped.output == "a\n[... 5 bytes cut; the command was stopped, it prints too much ...]\nz"


@pytest.fixture(params=["/bin/sh", "/bin/bash"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> ShellSession:
    shell = str(request.param)
    if not Path(shell).exists():
        pytest.skip(f"no {shell} here")

    async def open_shell() -> LocalShell:
        return await LocalShell.start([shell], tmp_path, {"PATH": "/usr/bin:/bin"}, marker=f"test-{tmp_path.name}")

    return ShellSession(open_shell, str(tmp_path))


async def test_state_is_kept_between_commands(session: ShellSession, tmp_path: Path) -> None:
    await session.open()
    try:
        await session.run("x=5; f() { echo called $1; }; mkdir -p sub; cd sub", 20, 1000)
        result = await session.run('echo "$x"; f twice; pwd', 20, 1000)
        assert result.head == f"5\ncalled twice\n{tmp_path}/sub\n".encode()
        assert (await session.run("(exit 9)", 20, 1000)).exit_code == 9
        assert session.restarts == 0
    finally:
        await session.close()


async def test_any_posix_shell_survives(session: ShellSession, tmp_path: Path) -> None:
    await session.open()
    try:
        assert (await session.run("mkdir sub; cd sub; exit 4", 20, 1000)).exit_code == 4
        assert (await session.run("pwd", 20, 1000)).head == f"{tmp_path}/sub\n".encode()
        assert (await session.run("if", 20, 1000)).exit_code != 0
        assert (await session.run("sleep 600", 0.3, 1000)).timed_out
        assert (await session.run("echo on", 20, 1000)).head == b"on\n"
    finally:
        await session.close()


async def test_vanished_directory_falls_back_to_the_first(session: ShellSession, tmp_path: Path) -> None:
    await session.open()
    try:
        await session.run("mkdir gone; cd gone; rmdir ../gone; exit", 20, 1000)
        assert (await session.run("pwd", 20, 1000)).head == f"{tmp_path}\n".encode()
    finally:
        await session.close()


async def test_commands_take_turns(session: ShellSession) -> None:
    await session.open()
    try:
        results = await asyncio.gather(*(session.run(f"echo {n}; echo {n}", 20, 1000) for n in range(5)))
        assert [result.head for result in results] == [f"{n}\n{n}\n".encode() for n in range(5)]
    finally:
        await session.close()


async def test_closed_session_is_lost(session: ShellSession) -> None:
    await session.open()
    seconds = unique_seconds()
    running = asyncio.create_task(session.run(f"sleep {seconds}", 60, 1000))
    await runs(seconds)
    await session.close()
    with pytest.raises(SandboxLostError):
        await running
    with pytest.raises(SandboxLostError):
        await session.run("true", 5, 1000)
    await session.close()


async def test_shell_that_cannot_start_is_lost(tmp_path: Path) -> None:
    async def open_shell() -> LocalShell:
        return await LocalShell.start(["/bin/false"], tmp_path, {}, marker="test-no-shell")

    with pytest.raises(SandboxLostError, match="cannot start"):
        await ShellSession(open_shell, str(tmp_path)).open()


class WatchedShell(LocalShell):
    """Says when it is asked to end, and does so once it may."""

    def __init__(self, process: "subprocess.Popen[bytes]", marker: str | None) -> None:
        super().__init__(process, marker)
        self.asked_to_end, self.may_end = asyncio.Event(), asyncio.Event()

    async def end(self, hung: bool = False) -> int:
        self.asked_to_end.set()
        await self.may_end.wait()
        return await super().end(hung)

    @property
    def is_dead(self) -> bool:
        return self._process.poll() is not None


async def watched(command: list[str], folder: Path) -> WatchedShell:
    shell = await WatchedShell.start(command, folder, {"PATH": "/usr/bin:/bin"}, marker=f"test-{folder.name}")
    assert isinstance(shell, WatchedShell)
    return shell


@pytest.mark.parametrize("why", ["killed", "cancelled"])
async def test_closing_waits_for_a_shell_that_is_being_replaced(tmp_path: Path, why: str) -> None:
    shell = await watched(["/bin/sh"], tmp_path)

    async def open_shell() -> LocalShell:
        return shell

    session = ShellSession(open_shell, str(tmp_path))
    await session.open()
    seconds = unique_seconds()
    if why == "cancelled":
        running = asyncio.create_task(session.run(f"sleep {seconds}", 60, 1000))
        await runs(seconds)
        running.cancel()
    else:
        running = asyncio.create_task(session.run("kill -9 $$", 60, 1000))
    await shell.asked_to_end.wait()
    closing = asyncio.create_task(session.close())
    for _ in range(10):
        await asyncio.sleep(0)
    early = closing.done()
    shell.may_end.set()
    await asyncio.wait_for(closing, 60)
    assert (early, shell.is_dead) == (False, True)
    with pytest.raises(asyncio.CancelledError if why == "cancelled" else SandboxLostError):
        await running


async def test_closing_ends_a_shell_that_is_just_starting(tmp_path: Path) -> None:
    shell = await watched(["/bin/sleep", "600"], tmp_path)  # it will never answer
    shell.may_end.set()
    opened = asyncio.Event()

    async def open_shell() -> LocalShell:
        opened.set()
        return shell

    session = ShellSession(open_shell, str(tmp_path))
    opening = asyncio.create_task(session.open())
    await opened.wait()
    await asyncio.wait_for(session.close(), 60)
    assert shell.is_dead
    with pytest.raises(SandboxLostError, match="closed while its shell started"):
        await opening
