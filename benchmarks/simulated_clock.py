"""An event loop whose clock jumps to the next timer instead of waiting for it: hours of asyncio code in a moment, exactly."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class NothingToWaitForError(RuntimeError):
    """Every task waits and no timer runs: on a real clock this would hang for ever."""


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    """Never sleeps: a wait of t seconds moves `now` by t."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        events = super().select(0)
        if not events and timeout is None:
            raise NothingToWaitForError("all tasks wait for each other")
        if not events and timeout is not None and timeout > 0:
            self.now += timeout
        return events


class SimulatedTimeLoop(asyncio.SelectorEventLoop):
    """No input or output in it: nothing but timers wakes it up."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:
        """At once and here: it takes no simulated time."""
        done = self.create_future()
        done.set_result(func(*args))
        return done

    def time(self) -> float:
        return self._jumping.now


def run_simulated(main: Coroutine[Any, Any, Result]) -> Result:
    """`asyncio.run` on a simulated clock that starts at 0."""
    with asyncio.Runner(loop_factory=SimulatedTimeLoop) as runner:
        return runner.run(main)
