"""Several calls at once that succeed or end together."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")


async def all_at_once(calls: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """What the calls return, in their order. When one fails, its error is raised after the others were cancelled and have
    ended: none of them goes on writing where the caller has closed up."""
    try:
        async with asyncio.TaskGroup() as running:
            tasks = [running.create_task(call) for call in calls]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
