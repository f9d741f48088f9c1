import asyncio
from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envpool.pool.fair_slots import FairSlots


async def served(total: int, askers: list[str], cancelled: Collection[int] = ()) -> tuple[list[str], int]:
    """The order in which `askers` (their groups) got slots, each for one turn of the loop; the most slots in use at once."""
    slots, order, most, active = FairSlots(total), [], 0, 0

    async def use(number: int, group: str) -> None:
        nonlocal most, active
        async with slots.take(group):
            order.append(f"{group}{number}")
            active += 1
            most = max(most, active)
            try:
                await asyncio.sleep(0)
            finally:
                active -= 1

    tasks = [asyncio.create_task(use(number, group)) for number, group in enumerate(askers)]
    await asyncio.sleep(0)
    for number in cancelled:
        tasks[number].cancel()
    outcomes = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
    assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
    async with asyncio.timeout(5), slots.take("after"):
        assert slots.num_waiting == 0
    return order, most


async def test_groups_take_turns_and_are_served_in_order() -> None:
    order, most = await served(1, ["a"] * 4 + ["b"] * 2 + ["c"])
    assert (order, most) == (["a0", "a1", "b4", "c6", "a2", "b5", "a3"], 1)


async def test_one_group_is_first_come_first_served() -> None:
    assert await served(2, [""] * 6) == ([str(number) for number in range(6)], 2)


async def test_a_small_group_waits_for_one_slot_however_many_stand_before_it() -> None:
    order, _ = await served(1, ["big"] * 200 + ["small"])
    assert order.index("small200") == 2


@pytest.mark.parametrize("cancelled", [{0}, {1, 2}, {0, 3, 4}])
async def test_cancelled_waiters_leave_their_places(cancelled: set[int]) -> None:
    order, _ = await served(1, ["a", "a", "b", "b", "c"], cancelled)
    assert {int(name[1:]) for name in order if name[0] in "abc"} >= set(range(5)) - cancelled


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4), st.lists(st.sampled_from("abcd"), max_size=30), st.sets(st.integers(0, 29)))
def test_everyone_who_stays_is_served_once(total: int, askers: list[str], cancelled: set[int]) -> None:
    cancelled = {number for number in cancelled if number < len(askers)}
    order, most = asyncio.run(served(total, askers, cancelled))
    assert most <= total
    assert len(order) == len(set(order))
    assert {int(name[1:]) for name in order} >= set(range(len(askers))) - cancelled
