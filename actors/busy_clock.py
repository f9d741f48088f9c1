"""How long something had work, and how long its work waited: running sums, read at any moment."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class BusyClock:
    """`busy_s`: seconds with at least one request. `request_s`: seconds of all requests together, `waiting_s` of them before
    they were let in; both grow when a request ends. One event loop only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since = 0.0
        self._busy_s = 0.0
        self._running = 0
        self.request_s = self.waiting_s = 0.0

    @property
    def busy_s(self) -> float:
        """Until now."""
        return self._busy_s + (self._clock() - self._since if self._running else 0.0)

    @contextmanager
    def request(self) -> Iterator[Callable[[], None]]:
        """A request, from its arrival to its end; call what is yielded when it is let in."""
        arrived = self._clock()
        let_in: list[float] = []
        if not self._running:
            self._since = arrived
        self._running += 1
        try:
            yield lambda: let_in.append(self._clock())
        finally:
            ended = self._clock()
            self._running -= 1
            if not self._running:
                self._busy_s += ended - self._since
            self.request_s += ended - arrived
            self.waiting_s += (let_in[0] if let_in else ended) - arrived
