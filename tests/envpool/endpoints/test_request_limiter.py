"""Rate limits, by a clock that only sleeping moves."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envpool.endpoints.request_limiter import RequestLimiter


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    async def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        await asyncio.sleep(0)


def limiter(requests: float = 0.0, tokens: float = 0.0) -> tuple[RequestLimiter, Clock]:
    clock = Clock()
    return RequestLimiter(requests, tokens, lambda: clock.now_s, clock.sleep), clock


async def times(one: RequestLimiter, sizes: list[int]) -> list[float]:
    return [round((await one.admit(size)).at_s - 1000.0, 6) for size in sizes]


async def test_requests_per_minute() -> None:
    assert await times(limiter(requests=3)[0], [1] * 7) == [0, 0, 0, 60, 60, 60, 120]


async def test_less_than_one_request_a_minute() -> None:
    assert await times(limiter(requests=0.5)[0], [1, 1, 1]) == [0, 120, 240]


async def test_tokens_per_minute_and_a_request_that_is_larger_than_the_limit() -> None:
    assert await times(limiter(tokens=100)[0], [60, 40, 10, 500, 1]) == [0, 0, 60, 120, 180]


async def test_the_real_use_replaces_the_reservation() -> None:
    one, _ = limiter(tokens=100)
    one.settle(await one.admit(90), 10)
    assert await times(one, [90, 1]) == [0, 60]


async def test_silence_holds_everyone_back() -> None:
    one, clock = limiter()
    one.silence(7.0)
    one.silence(3.0)
    assert await times(one, [1]) == [7]
    assert one.waited_s == pytest.approx(7.0)
    clock.now_s += 1.0
    assert await times(one, [1]) == [8]


async def test_a_cancelled_wait_lets_the_next_one_through() -> None:
    one = RequestLimiter(requests_per_minute=1)
    await one.admit(0)
    waiting = asyncio.create_task(one.admit(0))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(one.admit(0), 0.05)


@given(
    limit=st.tuples(st.integers(0, 5), st.integers(0, 200)),
    requests=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 150), st.floats(0, 90)), max_size=30),
)
def test_no_minute_has_more_than_the_limits(limit: tuple[int, int], requests: list[tuple[int, int, float]]) -> None:
    """Reservations that are larger than what was used; pauses between requests."""

    async def play() -> list[tuple[float, int]]:
        one, clock = limiter(*limit)
        admitted = []
        for first, second, pause_s in requests:
            admission = await one.admit(max(first, second))
            one.settle(admission, min(first, second))
            admitted.append((admission.at_s, min(first, second)))
            clock.now_s += pause_s
        return admitted

    admitted = asyncio.run(play())
    for start_s, _ in admitted:
        window = [tokens for at_s, tokens in admitted if start_s <= at_s < start_s + 60.0 - 1e-6]
        assert not limit[0] or len(window) <= limit[0]
        assert not limit[1] or sum(window) <= limit[1] or len(window) == 1


def test_a_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        RequestLimiter(-1)
