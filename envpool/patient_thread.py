"""Blocking work in a thread that nobody walks away from."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


async def in_patient_thread(work: Callable[[], Result]) -> Result:
    """Like asyncio.to_thread, but who is cancelled waits for the thread all the same: nothing that it writes can appear after
    the caller has cleaned up."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
