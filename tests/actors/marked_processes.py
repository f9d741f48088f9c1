"""Processes that inherited a mark, so that stragglers can be found and single ones stopped or killed."""

import asyncio
import os
from pathlib import Path


def processes_with(mark: str) -> dict[int, str]:
    """Process ids and command lines of all others whose environment holds `mark` (NAME=value)."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int(folder.name) != os.getpid() and mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:200]
        except OSError:  # it ended meanwhile
            continue
    return found


async def process_of(mark: str, command: str) -> int:
    """The one process with this in its command line, within a minute: the kernel may show an environment as empty for a moment,
    and a restarted process has its title a while after its start."""
    async with asyncio.timeout(60):
        while True:
            match [pid for pid, line in processes_with(mark).items() if command in line]:
                case [pid]:
                    return pid
            await asyncio.sleep(0.2)
