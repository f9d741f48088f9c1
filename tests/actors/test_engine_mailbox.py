"""No answer is lost or swapped, however calls and completions interleave; broken engines reach every caller."""

import asyncio
import random

import numpy as np
import pytest

from actors.engine_failure import EngineUnavailableError
from actors.engine_mailbox import EngineLink, EngineRequest, Mailbox
from envpool.policy import Completion, PolicyError


def _request(number: int) -> EngineRequest:
    return EngineRequest(
        f"r{number}", f"s{number}", np.array([number], dtype=np.int32), max_tokens=8, temperature=1.0, seed=number
    )


def _echo(request: EngineRequest) -> Completion:
    ids = request.prompt_ids
    return Completion(ids, np.zeros(1, np.float32), np.zeros(1, np.int32), "stop")


@pytest.mark.parametrize("seed", range(20))
async def test_every_request_gets_its_own_answer(seed: int) -> None:
    chance = random.Random(seed)
    messages = 0

    async def nap() -> None:
        await asyncio.sleep(chance.choice([0, 0, 0, 0.0005, 0.002]))

    async def serve(request: EngineRequest) -> Completion:
        await nap()
        return _echo(request)

    mailbox = Mailbox(serve)

    async def exchange(caller: str, requests: list[EngineRequest]) -> list:
        nonlocal messages
        messages += 1
        await nap()
        answers = await mailbox.exchange(caller, requests)
        await nap()
        return answers

    link = EngineLink("me", exchange)

    async def session(index: int) -> list[int]:
        return [int((await link.generate(_request(100 * index + turn))).token_ids[0]) for turn in range(10)]

    async with asyncio.timeout(10):
        answers = await asyncio.gather(*(session(index) for index in range(16)))
    assert answers == [[100 * index + turn for turn in range(10)] for index in range(16)]
    assert messages < 2 * 160 + 2


async def test_requests_posted_together_travel_in_one_message() -> None:
    batches: list[int] = []

    async def serve(request: EngineRequest) -> Completion:
        return _echo(request)

    mailbox = Mailbox(serve)

    async def exchange(caller: str, requests: list[EngineRequest]) -> list:
        batches.append(len(requests))
        return await mailbox.exchange(caller, requests)

    link = EngineLink("me", exchange)
    await asyncio.gather(*(link.generate(_request(number)) for number in range(64)))
    assert batches == [64]


async def test_a_dead_engine_fails_everything_under_way() -> None:
    async def exchange(caller: str, requests: list[EngineRequest]) -> list:
        await asyncio.sleep(0.001)
        raise EngineUnavailableError("engine 0 died; its requests are lost")

    link = EngineLink("me", exchange)
    results = await asyncio.gather(*(link.generate(_request(number)) for number in range(3)), return_exceptions=True)
    assert [str(result) for result in results] == ["engine 0 died; its requests are lost"] * 3
    assert all(isinstance(result, EngineUnavailableError) for result in results)


async def test_one_refused_request_does_not_disturb_the_others() -> None:
    async def serve(request: EngineRequest) -> Completion:
        if request.request_id == "r1":
            raise PolicyError("vLLM refused a prompt of 2000 tokens")
        await asyncio.sleep(0.002)
        return _echo(request)

    link = EngineLink("me", Mailbox(serve).exchange)
    first, second = await asyncio.gather(link.generate(_request(1)), link.generate(_request(2)), return_exceptions=True)
    assert str(first) == "vLLM refused a prompt of 2000 tokens"
    assert type(first) is PolicyError  # another try would not help
    assert second.token_ids.tolist() == [2]


async def test_a_cancelled_request_leaves_the_link_usable() -> None:
    async def serve(request: EngineRequest) -> Completion:
        await asyncio.sleep(0.02 if request.request_id == "r1" else 0)
        return _echo(request)

    link = EngineLink("me", Mailbox(serve).exchange)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(link.generate(_request(1)), 0.005)
    assert (await asyncio.wait_for(link.generate(_request(2)), 5)).token_ids.tolist() == [2]


async def test_a_request_cancelled_before_it_was_sent_is_not_sent() -> None:
    """Its abort has gone out already, so the engine would decode for nobody."""
    sent: list[list[str]] = []

    async def exchange(caller: str, requests: list[EngineRequest]) -> list:
        sent.append([request.request_id for request in requests])
        return [(request.request_id, _echo(request)) for request in requests]

    link = EngineLink("me", exchange)
    gone, alone = (asyncio.create_task(link.generate(_request(number))) for number in (1, 2))
    await asyncio.sleep(0)  # both are posted, nothing is sent
    gone.cancel()
    assert (await alone).token_ids.tolist() == [2]
    assert sent == [["r2"]]
    gone = asyncio.create_task(link.generate(_request(3)))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    for _ in range(5):
        await asyncio.sleep(0)
    assert sent == [["r2"]]
    assert (await link.generate(_request(4))).token_ids.tolist() == [4]


async def test_what_a_dead_engine_failed_before_it_was_sent_is_not_sent() -> None:
    sent: list[str] = []
    link: EngineLink

    async def exchange(caller: str, requests: list[EngineRequest]) -> list:
        sent.extend(request.request_id for request in requests)
        late.append(asyncio.create_task(link.generate(_request(2))))
        await asyncio.sleep(0)  # the second is posted
        raise EngineUnavailableError("engine 0 died")

    late: list[asyncio.Task[Completion]] = []
    link = EngineLink("me", exchange)
    for call in (link.generate(_request(1)), None):
        with pytest.raises(EngineUnavailableError):
            await (call or late[0])
    for _ in range(5):
        await asyncio.sleep(0)
    assert sent == ["r1"]


async def test_a_request_nobody_waits_for_is_stopped_where_it_stands() -> None:
    stopped = asyncio.Event()

    async def serve(request: EngineRequest) -> Completion:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            stopped.set()
            raise
        return _echo(request)

    mailbox = Mailbox(serve)
    link = EngineLink("me", mailbox.exchange)
    waiting = asyncio.create_task(link.generate(_request(1)))
    await asyncio.sleep(0.01)
    mailbox.cancel("r1")
    mailbox.cancel("r1")
    mailbox.cancel("unknown")
    async with asyncio.timeout(10):
        await stopped.wait()
    assert not waiting.done()  # it gets no answer
    waiting.cancel()
