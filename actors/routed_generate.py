"""The policy that samples from engine actors: routed, with deadlines, and tried again when an engine breaks."""

import asyncio
import itertools
import os
import time
from typing import Any

from ray.exceptions import RayActorError, RayError

from actors.engine_failure import EngineUnavailableError
from actors.engine_mailbox import Answer, EngineLink, EngineRequest, Exchange
from actors.engine_router import EngineRouter
from actors.ray_calls import arrives, cause_of
from envpool.policy import Completion, GenerateRequest, PolicyError

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0
ASK_S = 15.0
"""An engine that does not say within this time how long it worked counts as one that did not."""


class RoutedGenerate:
    """envpool.policy.Generate over engine actors. Sessions stay on their engine; every request has a deadline.

    A request whose engine died, hung or restarts goes to another one, or waits for the same one to come back; with the same
    seed, so that the same weights give the same sample. Raises EngineUnavailableError when the deadline is over, PolicyError when
    the engine refuses the prompt. Use it in the event loop that made it.
    """

    def __init__(self, handles: list[Any], request_timeout_s: float) -> None:
        self._caller = f"{os.getpid()}-{time.time_ns()}"
        self._handles = handles
        self._links = [EngineLink(self._caller, _exchange_with(index, handle)) for index, handle in enumerate(handles)]
        self._timeout_s = request_timeout_s
        self._router = EngineRouter(len(handles))
        self._numbers = itertools.count()
        self._sent: dict[int, tuple[int, str]] = {}
        """Engine and id of the try under way, by `id` of its request."""
        self.retries = 0
        """Requests that were sent again."""

    async def __call__(self, request: GenerateRequest) -> Completion:
        deadline = time.monotonic() + self._timeout_s
        wait_s = FIRST_WAIT_S
        while True:
            index = self._router.begin(request.session_id, time.monotonic())
            try:
                return await self._try(index, request, deadline)
            except EngineUnavailableError as error:
                if time.monotonic() + wait_s >= deadline:
                    raise EngineUnavailableError(
                        f"{error}; no engine took its place within {self._timeout_s:g} s (engine.request_timeout_s)"
                    ) from error
            self.retries += 1
            if not self._router.num_up(time.monotonic()):
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def model_s(self, request: GenerateRequest) -> float:
        """See envpool.policy.TimedGenerate and EngineActor.model_s; 0 between tries and when the engine does not say."""
        if (sent := self._sent.get(id(request))) is None:
            return 0.0
        index, request_id = sent
        try:
            return float(await asyncio.wait_for(arrives(self._handles[index].model_s.remote(request_id)), ASK_S))
        except (RayError, TimeoutError):
            return 0.0

    async def _try(self, index: int, request: GenerateRequest, deadline: float) -> Completion:
        request_id = f"{self._caller}-{next(self._numbers)}"
        posted = EngineRequest(
            request_id, request.session_id, request.prompt_ids, request.max_tokens, request.temperature, request.seed
        )
        self._sent[id(request)] = (index, request_id)
        engine_works: bool | None = None  # nobody knows when this is cancelled
        answered = False
        try:
            completion = await asyncio.wait_for(self._links[index].generate(posted), deadline - time.monotonic())
            engine_works = answered = True
            return completion
        except TimeoutError as error:
            engine_works = False
            raise PolicyError(
                f"engine {index} gave no completion within {self._timeout_s:g} s (engine.request_timeout_s)"
            ) from error
        except EngineUnavailableError:
            engine_works, answered = False, True
            raise
        except PolicyError:
            engine_works = answered = True
            raise
        finally:
            self._sent.pop(id(request), None)
            self._router.end(index, engine_works, time.monotonic())
            if not answered:
                self._handles[index].abort.remote(request_id)


def as_unavailable(error: RayError, who: str) -> EngineUnavailableError:
    """What Ray raised for a call of an engine, as one line."""
    if isinstance(error, RayActorError):
        return EngineUnavailableError(f"{who} died; its requests are lost")
    return EngineUnavailableError(f"{who}: {cause_of(error)}")


def _exchange_with(index: int, handle: Any) -> Exchange:
    async def exchange(caller: str, requests: list[EngineRequest]) -> list[Answer]:
        try:
            answers: list[Answer] = await handle.exchange.remote(caller, requests)
        except RayError as error:
            raise as_unavailable(error, f"engine {index}") from error
        return answers

    return exchange
