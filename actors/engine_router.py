"""Which engine serves which episode: pure bookkeeping, no Ray."""

from collections import OrderedDict
from dataclasses import dataclass, field


@dataclass
class EngineRouter:
    """Keeps a session on its engine (its prefix cache is there) and sends new sessions to the least loaded one.

    >>> router = EngineRouter(num_engines=2)
    >>> router.begin("a", now=0.0), router.begin("b", now=0.0), router.begin("a", now=0.0)
    (0, 1, 0)
    """

    num_engines: int
    avoid_s: float = 30.0
    """An engine that failed gets no request for that long, while another is up."""
    max_sessions: int = 10_000
    """Older sessions are forgotten: they then start anew on any engine."""
    in_flight: list[int] = field(init=False)
    """Requests running on each engine."""
    _assigned: list[int] = field(init=False)
    _avoid_until: list[float] = field(init=False)
    _homes: OrderedDict[str, int] = field(init=False, default_factory=OrderedDict)

    def __post_init__(self) -> None:
        if self.num_engines < 1:
            raise ValueError(f"a router needs at least one engine, not {self.num_engines}")
        self.in_flight = [0] * self.num_engines
        self._assigned = [0] * self.num_engines
        self._avoid_until = [float("-inf")] * self.num_engines

    def begin(self, session_id: str, now: float) -> int:
        """The engine for one more request of this session; `end` must follow. `now` is seconds on any steady clock."""
        up = [index for index in range(self.num_engines) if self._avoid_until[index] <= now] or list(range(self.num_engines))
        home = self._homes.get(session_id)
        if home is None or home not in up:
            home = min(up, key=lambda index: (self.in_flight[index], self._assigned[index], index))
            self._assigned[home] += 1
        self._homes[session_id] = home
        self._homes.move_to_end(session_id)
        if len(self._homes) > self.max_sessions:
            self._homes.popitem(last=False)
        self.in_flight[home] += 1
        return home

    def num_up(self, now: float) -> int:
        """Engines that are not being avoided."""
        return sum(until <= now for until in self._avoid_until)

    def end(self, engine: int, succeeded: bool | None, now: float) -> None:
        """A request is over; an engine that failed is avoided for a while. `succeeded` None: the request was cancelled and says
        nothing about the engine."""
        self.in_flight[engine] -= 1
        if succeeded is not None:
            self._avoid_until[engine] = float("-inf") if succeeded else now + self.avoid_s
