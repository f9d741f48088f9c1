"""Staying below an endpoint's rate limits: so many requests and tokens in any sixty seconds, and silence when it asks for it."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

WINDOW_S = 60.0


@dataclass(eq=False)
class Admission:
    """One admitted request: when (the limiter's clock) and the tokens it counts for."""

    at_s: float
    tokens: int


class RequestLimiter:
    """Admits requests in the order they ask. In no window of 60 s are more than `requests_per_minute` admitted, nor requests
    that count for more than `tokens_per_minute`; 0 means no limit. A request larger than the token limit goes alone.

    Tokens are reserved before a request and corrected by `settle` when the answer says what it took. Use it in one event loop.
    """

    def __init__(
        self,
        requests_per_minute: float = 0.0,
        tokens_per_minute: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if requests_per_minute < 0 or tokens_per_minute < 0:
            raise ValueError(
                f"limits must not be negative: {requests_per_minute:g} requests, {tokens_per_minute:g} tokens a minute"
            )
        # Below one request a minute, the window is as long as one request takes.
        self._window_s = WINDOW_S / min(requests_per_minute or 1.0, 1.0)
        self._requests = max(requests_per_minute, 1.0) if requests_per_minute else 0.0
        self._tokens = tokens_per_minute * self._window_s / WINDOW_S
        self._clock, self._sleep = clock, sleep
        self._queue = asyncio.Lock()
        self._recent: deque[Admission] = deque()
        self._silent_until = float("-inf")
        self.waited_s = 0.0

    async def admit(self, tokens: int) -> Admission:
        """Wait for the turn of a request that will take about `tokens`."""
        async with self._queue:
            started = self._clock()
            while (wait_s := self._wait_s(tokens)) > 0:
                await self._sleep(wait_s)
            admission = Admission(self._clock(), tokens)
            self.waited_s += admission.at_s - started
            self._recent.append(admission)
            return admission

    def settle(self, admission: Admission, tokens: int) -> None:
        """What an admitted request really took."""
        admission.tokens = tokens

    def silence(self, seconds: float) -> None:
        """Admit nothing for so long (the endpoint's Retry-After): the limit is of the key, not of one request."""
        self._silent_until = max(self._silent_until, self._clock() + seconds)

    def _wait_s(self, tokens: int) -> float:
        """Seconds until a request may go, by what is known now; 0 when it may."""
        now = self._clock()
        while self._recent and self._recent[0].at_s + self._window_s <= now:
            self._recent.popleft()
        waits = [self._silent_until - now]
        if self._requests and len(self._recent) + 1 > self._requests:
            waits.append(self._recent[len(self._recent) - int(self._requests)].at_s + self._window_s - now)
        if self._tokens:
            waits.append(self._tokens_free_s(tokens, now))
        return max(*waits, 0.0)

    def _tokens_free_s(self, tokens: int, now: float) -> float:
        """Seconds until enough of the window's tokens have left it."""
        used, free_s = sum(one.tokens for one in self._recent), 0.0
        for one in self._recent:
            if used + tokens <= self._tokens:
                break
            used -= one.tokens
            free_s = one.at_s + self._window_s - now
        return free_s
