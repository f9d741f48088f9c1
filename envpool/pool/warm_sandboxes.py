"""Sandboxes started ahead of time for the tasks that come next."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from envpool.sandbox import Sandbox
from envpool.sandbox_errors import SandboxError, SandboxUnavailableError

logger = logging.getLogger(__name__)

STARTS_AT_ONCE = 2  # cold starts are bound by the engine: more of them only delay those that somebody waits for
ALIVE_S = 5.0
HINTS_PER_PLACE = 16

Start = Callable[[str, str], Awaitable[Sandbox]]
Discard = Callable[[Sandbox], Awaitable[None]]


@dataclass(frozen=True)
class WarmSandbox:
    """A started sandbox that nobody has used."""

    key: tuple[str, str]
    sandbox: Sandbox
    made_at: float


class WarmSandboxes:
    """At most `limit` started or starting sandboxes, made in the order of the hints; one unused for `keep_s` seconds is removed.

    `start` and `discard` must not fail silently: a start's SandboxError is logged here and the hint is dropped, since who
    then asks for that sandbox starts it and sees the error.
    """

    def __init__(self, start: Start, discard: Discard, limit: int, keep_s: float) -> None:
        self._start, self._discard, self._limit, self._keep_s = start, discard, limit, keep_s
        self._wanted: deque[tuple[str, str]] = deque(maxlen=max(1, limit * HINTS_PER_PLACE))
        self._ready: deque[WarmSandbox] = deque()
        self._starting: dict[asyncio.Task[Sandbox], tuple[str, str]] = {}
        self._discarding: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def num_ready(self) -> int:
        """Sandboxes that wait for a user."""
        return len(self._ready)

    def hint(self, image: str, workdir: str, count: int = 1) -> None:
        """`count` sandboxes of this image will be asked for soon. The oldest hints are forgotten when there are too many."""
        if self._limit < 1 or self._closed:
            return
        self._wanted.extend([(image, workdir)] * count)
        self._fill()

    async def take(self, image: str, workdir: str) -> Sandbox | None:
        """A live one for this image, waiting for one that is just starting; None when there is none."""
        key = (image, workdir)
        while (warm := self._pop_ready(key)) is not None:
            self._fill()
            try:
                alive = await _answers(warm.sandbox)
            except BaseException:  # cancelled: it is in nobody's hands
                self._throw_away(warm.sandbox)
                raise
            if alive:
                return warm.sandbox
            self._throw_away(warm.sandbox)
        for task, starts in self._starting.items():
            if starts == key:
                return await self._claim(task)
        if key in self._wanted:
            self._wanted.remove(key)  # the caller starts it now
        return None

    def expire(self) -> None:
        """Remove what waited too long."""
        oldest = time.monotonic() - self._keep_s
        while self._ready and self._ready[0].made_at < oldest:
            self._throw_away(self._ready.popleft().sandbox)
        self._fill()

    def drop_all(self) -> None:
        """Forget all hints and remove all that is ready; what is starting is removed once it is there."""
        self._wanted.clear()
        while self._ready:
            self._throw_away(self._ready.popleft().sandbox)
        for task in list(self._starting):
            del self._starting[task]
            task.add_done_callback(self._throw_away_result)
            task.cancel()

    async def close(self) -> None:
        """Remove everything and wait until it is gone."""
        self._closed = True
        starting = list(self._starting)
        self.drop_all()
        if starting:
            await asyncio.wait(starting)
            await asyncio.sleep(0)  # their callbacks
        while self._discarding:
            await asyncio.wait(list(self._discarding))

    def _fill(self) -> None:
        while self._wanted and not self._closed and len(self._starting) < STARTS_AT_ONCE:
            if len(self._ready) + len(self._starting) >= self._limit:
                return
            key = self._wanted.popleft()
            task = asyncio.ensure_future(self._start(*key))
            self._starting[task] = key
            task.add_done_callback(self._started)

    def _started(self, task: "asyncio.Task[Sandbox]") -> None:
        key = self._starting.pop(task, None)
        if key is None:  # claimed or dropped meanwhile
            return
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self._ready.append(WarmSandbox(key, task.result(), time.monotonic()))
        else:
            logger.warning("a sandbox of %s could not be started ahead: %s", key[0], error)
            if isinstance(error, SandboxUnavailableError):
                self._wanted.clear()
        self._fill()

    async def _claim(self, task: "asyncio.Task[Sandbox]") -> Sandbox | None:
        del self._starting[task]
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.cancelled():
                task.add_done_callback(self._throw_away_result)
            raise
        except SandboxError as error:
            logger.warning("a sandbox started ahead failed, another is started: %s", error)
            return None
        finally:
            self._fill()

    def _pop_ready(self, key: tuple[str, str]) -> WarmSandbox | None:
        for warm in self._ready:
            if warm.key == key:
                self._ready.remove(warm)
                return warm
        return None

    def _throw_away_result(self, task: "asyncio.Task[Sandbox]") -> None:
        if not task.cancelled() and task.exception() is None:
            self._throw_away(task.result())

    def _throw_away(self, sandbox: Sandbox) -> None:
        closing = asyncio.ensure_future(self._discard(sandbox))
        self._discarding.add(closing)
        closing.add_done_callback(self._discarding.discard)


async def _answers(sandbox: Sandbox) -> bool:
    """Whether it still lives: one command, well under a millisecond."""
    try:
        return not (await sandbox.run(":", ALIVE_S)).timed_out
    except (SandboxError, OSError):
        return False
