"""The limit on concurrent requests follows the KV cache; the gate keeps to it and lets known sessions go first."""

import asyncio

import pytest

from actors.kv_admission import AdmissionGate, KVAdmission


def _after(observations: list[tuple[float, int, int]], limit: int = 16) -> list[int]:
    admission = KVAdmission(limit=limit, ceiling=20, floor=2)
    return [admission.observe(usage, preemptions, running) for usage, preemptions, running in observations]


@pytest.mark.parametrize(
    ("observation", "limit"),
    [
        ((0.59, 0, 16), 18),  # room, and the limit was reached
        ((0.59, 0, 9), 16),  # room, but nobody waits for it
        ((0.60, 0, 16), 16),
        ((0.79, 0, 16), 16),
        ((0.80, 0, 12), 12),  # no more than run now
        ((0.90, 0, 16), 16),
        ((0.91, 0, 16), 12),  # three quarters
        ((0.91, 0, 8), 6),  # of what runs, not of what might
        ((0.30, 1, 16), 12),  # a preemption counts whatever the usage is
    ],
)
def test_one_observation(observation: tuple[float, int, int], limit: int) -> None:
    assert _after([observation]) == [limit]


def test_growth_stops_at_the_ceiling_and_cuts_at_the_floor() -> None:
    assert _after([(0.1, 0, 16), (0.1, 0, 18), (0.1, 0, 20)]) == [18, 20, 20]
    assert _after([(1.0, 3, 2), (1.0, 3, 2)], limit=2) == [2, 2]


def test_a_cut_acts_once_until_requests_have_finished() -> None:
    assert _after([(0.95, 0, 16), (0.95, 2, 16), (0.95, 0, 13), (0.95, 0, 12)]) == [12, 12, 12, 9]


async def _enter(gate: AdmissionGate, session: str, order: list[str], release: asyncio.Event) -> None:
    async with gate.admitted(session):
        order.append(session)
        await release.wait()


async def test_known_sessions_go_before_new_ones() -> None:
    gate = AdmissionGate(KVAdmission(limit=1, ceiling=4))
    order: list[str] = []
    async with gate.admitted("old"):
        pass
    release = asyncio.Event()
    tasks = [asyncio.create_task(_enter(gate, name, order, release)) for name in ("first", "new", "newer", "old")]
    await asyncio.sleep(0)
    assert (order, gate.running, gate.waiting) == (["first"], 1, 3)
    release.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
    assert order == ["first", "old", "new", "newer"]
    assert (gate.running, gate.waiting) == (0, 0)


async def test_a_higher_limit_lets_waiting_requests_in_and_a_cut_keeps_the_running() -> None:
    gate = AdmissionGate(KVAdmission(limit=2, ceiling=8))
    order: list[str] = []
    release = asyncio.Event()
    tasks = [asyncio.create_task(_enter(gate, str(number), order, release)) for number in range(6)]
    await asyncio.sleep(0)
    assert order == ["0", "1"]
    gate.observe(0.2, 0)
    await asyncio.sleep(0)
    assert order == ["0", "1", "2", "3"]
    gate.observe(0.95, 0)
    assert (gate.admission.limit, gate.running) == (3, 4)
    release.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)


async def test_a_request_cancelled_while_it_waits_holds_no_place() -> None:
    gate = AdmissionGate(KVAdmission(limit=1, ceiling=1))
    release = asyncio.Event()
    order: list[str] = []
    first = asyncio.create_task(_enter(gate, "first", order, release))
    gone = asyncio.create_task(_enter(gate, "gone", order, release))
    last = asyncio.create_task(_enter(gate, "last", order, release))
    await asyncio.sleep(0)
    gone.cancel()
    release.set()
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(first, gone, last, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [type(None), asyncio.CancelledError, type(None)]
    assert order == ["first", "last"]
    assert gate.running == 0


async def test_a_request_let_in_and_cancelled_at_once_gives_its_place_back() -> None:
    gate = AdmissionGate(KVAdmission(limit=1, ceiling=1))
    release = asyncio.Event()
    order: list[str] = []
    first = asyncio.create_task(_enter(gate, "first", order, release))
    second = asyncio.create_task(_enter(gate, "second", order, release))
    await asyncio.sleep(0)
    release.set()
    await asyncio.sleep(0)  # first leaves: second's place is granted, it has not run yet
    assert (order, gate.running, gate.waiting) == (["first"], 1, 0)
    second.cancel()
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [type(None), asyncio.CancelledError]
        await _enter(gate, "third", order, release)
    assert (order, gate.running, gate.waiting) == (["first", "third"], 0, 0)
