"""How many requests an engine decodes at once, from the pressure on its KV cache: additive increase, multiplicative decrease.

Too many at once and vLLM preempts requests, throwing their KV cache away to compute it again. Too few and it idles.
"""

import asyncio
import heapq
import itertools
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass
class KVAdmission:
    """The limit on concurrent requests. Usage is the share of KV blocks that running requests hold.

    Below 0.6 the limit grows by `step` when it was reached; from 0.8 it is at most what runs now; above 0.9, or after a
    preemption, it is cut. A cut takes effect as requests finish: until then there is no second one.

    >>> admission = KVAdmission(limit=16, ceiling=64)
    >>> [admission.observe(usage, 0, running=16) for usage in (0.5, 0.7, 0.85, 0.95, 0.95)]
    [18, 18, 16, 12, 12]
    """

    limit: int
    ceiling: int
    floor: int = 1
    grow_below: float = 0.6
    hold_from: float = 0.8
    cut_above: float = 0.9
    step: int = 2
    cut: float = 0.75
    cuts: int = 0
    """How often the limit was cut."""

    def observe(self, usage: float, preemptions: int, running: int) -> int:
        """The limit after one observation; `preemptions` since the last one, `running` requests now."""
        if usage > self.cut_above or preemptions > 0:
            if running <= self.limit:
                self.limit = int(max(running, self.floor) * self.cut)
                self.cuts += 1
        elif usage >= self.hold_from:
            self.limit = min(self.limit, running)
        elif usage < self.grow_below and running >= self.limit:
            self.limit += self.step
        self.limit = max(self.floor, min(self.limit, self.ceiling))
        return self.limit


class AdmissionGate:
    """Lets requests in up to the limit. Sessions that were here before go first: their prefixes are cached, and finishing them
    frees more memory than starting new ones. One event loop only."""

    def __init__(self, admission: KVAdmission, max_sessions: int = 10_000) -> None:
        self.admission = admission
        self.running = 0
        self._max_sessions = max_sessions
        self._known: OrderedDict[str, None] = OrderedDict()
        self._numbers = itertools.count()
        self._waiting: list[tuple[bool, int, asyncio.Future[None]]] = []

    @property
    def waiting(self) -> int:
        """Requests that wait to be let in."""
        return sum(not future.done() for _, _, future in self._waiting)

    @asynccontextmanager
    async def admitted(self, session_id: str) -> AsyncIterator[None]:
        """Hold one of the places; waits for it as long as the caller does."""
        is_new = session_id not in self._known
        if self.running < self.admission.limit and not self._waiting:
            self.running += 1
        else:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (is_new, next(self._numbers), future))
            try:
                await future
            except asyncio.CancelledError:
                if future.done() and not future.cancelled():  # let in and cancelled in the same moment
                    self._leave()
                raise
        self._known[session_id] = None
        self._known.move_to_end(session_id)
        if len(self._known) > self._max_sessions:
            self._known.popitem(last=False)
        try:
            yield
        finally:
            self._leave()

    def observe(self, usage: float, preemptions: int) -> None:
        """Adapt the limit (see `KVAdmission.observe`) and let in whom it allows."""
        self.admission.observe(usage, preemptions, self.running)
        self._let_in()

    def _leave(self) -> None:
        self.running -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self.running < self.admission.limit:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                self.running += 1
                future.set_result(None)
