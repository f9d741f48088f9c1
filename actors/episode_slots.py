"""How many episodes of a rollout worker run at once, and who is next."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class EpisodeSlots:
    """Lets at most `total` episodes run at once; a group takes all of its slots together, first come first served.

    A group larger than `total` takes all there are: its episodes still run at once.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._free = asyncio.Semaphore(total)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def take(self, count: int) -> AsyncIterator[None]:
        """Hold `count` slots. Only one group at a time collects slots: two that each hold half would wait for ever."""
        held = 0
        try:
            async with self._turn:
                while held < min(count, self._total):
                    await self._free.acquire()
                    held += 1
            yield
        finally:
            for _ in range(held):
                self._free.release()
