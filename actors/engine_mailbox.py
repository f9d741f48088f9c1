"""Many generation requests per Ray message. A Ray call costs about a millisecond on either side, as much as a decoding step of
a small model; so a caller posts what it has together and picks up whatever has finished.

One call, `exchange`, does both: it hands over new requests and waits for the first results of that caller. Its newest call
is the one that waits; an older one returns empty at once. With 64 episodes this is two messages per decoding step, not 64.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from actors.engine_failure import EngineUnavailableError, Failure
from envpool.policy import Completion, IntArray

WAIT_S = 30.0
"""An exchange without results returns after that, so that neither side waits on a peer that is gone."""


@dataclass(frozen=True)
class EngineRequest:
    """The arguments of `VLLMEngine.generate`, and whose turn it is (`session_id`: constant over an episode)."""

    request_id: str
    session_id: str
    prompt_ids: IntArray
    max_tokens: int
    temperature: float
    seed: int


Answer = tuple[str, Completion | Failure]
"""Request id, and its completion or why there is none."""
Serve = Callable[[EngineRequest], Awaitable[Completion]]
Exchange = Callable[[str, list[EngineRequest]], Awaitable[list[Answer]]]


@dataclass
class _Box:
    answers: list[Answer] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    newest_call: int = 0


class Mailbox:
    """The engine's side: runs requests and keeps answers until their caller asks. One event loop only."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._boxes: dict[str, _Box] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def exchange(self, caller: str, requests: list[EngineRequest]) -> list[Answer]:
        """Start `requests` and return the answers ready for this caller, waiting up to WAIT_S for the first."""
        box = self._boxes.setdefault(caller, _Box())
        for request in requests:
            task = asyncio.create_task(self._run(box, request))
            self._running[request.request_id] = task
            task.add_done_callback(partial(self._forget, request.request_id))
        box.newest_call += 1
        call = box.newest_call
        box.arrived.set()  # wakes the older call, which sees that it is no longer the newest
        await asyncio.sleep(0)
        if not box.answers:
            box.arrived.clear()
            try:
                await asyncio.wait_for(box.arrived.wait(), WAIT_S)
            except TimeoutError:
                return []
        if call != box.newest_call:
            return []
        await asyncio.sleep(0)  # the other answers of the same decoding step
        answers, box.answers = box.answers, []
        return answers

    def cancel(self, request_id: str) -> None:
        """Stop a request nobody waits for any more, wherever it stands; it gets no answer."""
        if task := self._running.get(request_id):
            task.cancel()

    def _forget(self, request_id: str, _: "asyncio.Task[None]") -> None:
        self._running.pop(request_id, None)

    async def _run(self, box: _Box, request: EngineRequest) -> None:
        try:
            answer: Completion | Failure = await self._serve(request)
        except Exception as error:  # a bug must reach the caller too, else it waits for its deadline
            answer = Failure.of(error)
        box.answers.append((request.request_id, answer))
        box.arrived.set()


class EngineLink:
    """The caller's side: `generate` as if the engine were here. One event loop only."""

    def __init__(self, caller: str, exchange: Exchange) -> None:
        self._caller = caller
        self._exchange = exchange
        self._outbox: list[EngineRequest] = []
        self._waiting: dict[str, asyncio.Future[Completion]] = {}
        self._num_listening = 0
        self._calls: set[asyncio.Task[None]] = set()

    async def generate(self, request: EngineRequest) -> Completion:
        """The engine's completion. Raises PolicyError; on cancellation the answer is dropped (aborting is the caller's part)."""
        future: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self._waiting[request.request_id] = future
        self._outbox.append(request)
        if len(self._outbox) == 1:
            asyncio.get_running_loop().call_soon(self._flush)
        try:
            return await future
        finally:
            self._waiting.pop(request.request_id, None)

    def _flush(self) -> None:
        requests, self._outbox = self._outbox, []
        self._num_listening += 1
        call = asyncio.create_task(self._call(requests))
        self._calls.add(call)  # the loop itself keeps no reference
        call.add_done_callback(self._calls.discard)

    def _is_wanted(self, request_id: str) -> bool:
        future = self._waiting.get(request_id)
        return future is not None and not future.done()

    async def _call(self, posted: list[EngineRequest]) -> None:
        # One cancelled before it was sent has its abort behind it: sent now, it would run for nobody.
        requests = [request for request in posted if self._is_wanted(request.request_id)]
        try:
            answers = await self._exchange(self._caller, requests) if any(map(self._is_wanted, self._waiting)) else []
        except Exception as error:  # the engine is gone, and with it everything that was under way
            lost = Failure(str(error) or type(error).__name__, may_retry=isinstance(error, EngineUnavailableError))
            answers = [(request_id, lost) for request_id in self._waiting]
        for request_id, answer in answers:
            if not self._is_wanted(request_id):
                continue
            if isinstance(answer, Failure):
                self._waiting[request_id].set_exception(answer.as_error())
            else:
                self._waiting[request_id].set_result(answer)
        self._num_listening -= 1
        if self._num_listening == 0 and not self._outbox and any(map(self._is_wanted, self._waiting)):
            self._flush()
