"""A bounded number of slots, handed out in turn to those who wait."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairSlots:
    """`total` slots. Waiters of one group are served first come first served, and the groups in turn, so that a group of a
    thousand waiters delays another's first one by a single slot and nobody starves."""

    def __init__(self, total: int) -> None:
        self._free = total
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @property
    def num_waiting(self) -> int:
        """Who has asked and holds no slot yet."""
        return sum(len(queue) for queue in self._waiting.values())

    @asynccontextmanager
    async def take(self, group: str = "") -> AsyncIterator[None]:
        """Hold one slot. A waiter that is cancelled gives its place, or the slot it was just handed, to the next."""
        await self._acquire(group)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, group: str) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(group, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()
            else:
                self._leave(group, turn)
            raise

    def _leave(self, group: str, turn: "asyncio.Future[None]") -> None:
        """Give up a place; `_release` may have passed over it already, between the cancellation and this."""
        queue = self._waiting.get(group, deque())
        if turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[group]

    def _release(self) -> None:
        while self._waiting:
            group, queue = next(iter(self._waiting.items()))
            turn = queue.popleft()
            if queue:
                self._waiting.move_to_end(group)
            else:
                del self._waiting[group]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
