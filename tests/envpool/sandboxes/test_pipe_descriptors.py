"""Nobody closes a descriptor that is not its own any more. Ray's actors run on uvloop, where a pipe given to connect_read_pipe is
closed twice; the second closing hits what another thread opened meanwhile."""

import asyncio
import io
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from envpool.sandbox_parts.local_shell import LocalShell
from envpool.sandboxes.process_sandbox import environment, shell_command


class WatchedFile(io.FileIO):
    """A file that notes when it is told to close a descriptor that is closed already."""

    late: list[int] = []  # noqa: RUF012  shared on purpose

    def close(self) -> None:
        if not self.closed:
            try:
                os.fstat(self.fileno())
            except OSError:
                self.late.append(self.fileno())
                return
        super().close()


def run_on_uvloop(main: Coroutine[Any, Any, None]) -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


async def use_shells(folder: Path) -> None:
    for how in ("ended", "reading", "writing", "exited"):
        shell = await LocalShell.start(list(shell_command()), folder, dict(environment()), marker=f"pipes-{os.getpid()}")
        waiting: asyncio.Task[Any] | None = None
        if how == "reading":
            waiting = asyncio.create_task(shell.read())
        elif how == "writing":  # more than a pipe holds, to a shell that does not read
            waiting = asyncio.create_task(shell.write(b"sleep 600\n" + b"#" * 200_000))
        elif how == "exited":
            await shell.write(b"echo last; exit 3\n")
            assert await shell.read() == b"last\n"
            assert await shell.read() == b""
        await asyncio.sleep(0.05)
        async with asyncio.timeout(20):
            ended_with = await shell.end()
        assert ended_with == 3 if how == "exited" else ended_with in (0, -9, -13)
        if how == "reading":
            assert waiting is not None
            assert await asyncio.wait_for(waiting, 10) == b""
        elif how == "writing":
            assert waiting is not None
            with pytest.raises(BrokenPipeError):
                await asyncio.wait_for(waiting, 10)


def open_descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("uvloop", [False, True])
def test_pipes_are_closed_once(uvloop: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = io.open
    WatchedFile.late.clear()

    def watched(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **named: Any) -> Any:
        if isinstance(file, int) and buffering == 0:
            return WatchedFile(file, mode)
        return plain(file, mode, buffering, *rest, **named)

    monkeypatch.setattr(io, "open", watched)
    (run_on_uvloop if uvloop else asyncio.run)(use_shells(tmp_path))
    assert WatchedFile.late == []


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    asyncio.run(use_shells(tmp_path))
    before = open_descriptors()
    asyncio.run(use_shells(tmp_path))
    assert len(open_descriptors()) <= len(before)
