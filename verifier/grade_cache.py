"""Each distinct patch of a task is graded once, also when many episodes end with it at the same moment."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from envpool.patch import Patch
from envpool.pool.seconds_histogram import SecondsHistogram
from verifier.deployable_context import DeployableContext
from verifier.test_report import TestReport


@dataclass(frozen=True)
class GradedPatch:
    """A report and what a scorer may see of the same patch; `context` is None when it was not asked for, and for a patch that is
    empty or does not apply.
    `parts` are numbers about how it was decided (a simulated verdict's probability), for the record."""

    report: TestReport
    context: DeployableContext | None
    parts: dict[str, float] = field(default_factory=dict)


@dataclass
class _Flight:
    task: "asyncio.Task[GradedPatch]"
    num_waiting: int


@dataclass
class GradeCache:
    """Reports by (instance_id, sha256 of the diff), in memory, oldest dropped beyond `max_entries`. One event loop only."""

    max_entries: int = 10_000
    num_graded: int = 0
    """Gradings that ran to the end."""
    num_shared: int = 0
    """Requests answered by a report, or a running grading, that was there already."""
    seconds: SecondsHistogram = field(default_factory=SecondsHistogram)
    """Of the gradings that ran to the end, their sandbox included."""
    _reports: "OrderedDict[tuple[str, str], GradedPatch]" = field(default_factory=OrderedDict)
    _flights: dict[tuple[str, str], _Flight] = field(default_factory=dict)

    async def graded(self, instance_id: str, patch: Patch, grade: Callable[[], Awaitable[GradedPatch]]) -> GradedPatch:
        """The patch's grading, run by `grade` unless it is known or under way.

        A failed grading is not kept: its error goes to everyone who waits for it, the next request tries again. A grading
        nobody waits for any more is cancelled, and has ended when this returns.
        """
        key = (instance_id, hashlib.sha256(patch.diff.encode("utf-8", "surrogatepass")).hexdigest())
        if key in self._reports:
            self.num_shared += 1
            return self._reports[key]
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = _Flight(asyncio.ensure_future(self._run(key, grade)), 0)
        else:
            self.num_shared += 1
        flight.num_waiting += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.num_waiting -= 1
            if flight.num_waiting == 0 and not flight.task.done():
                self._flights.pop(key, None)
                flight.task.cancel()
                await asyncio.wait([flight.task])

    async def _run(self, key: tuple[str, str], grade: Callable[[], Awaitable[GradedPatch]]) -> GradedPatch:
        try:
            began = time.monotonic()
            graded = await grade()
            self.seconds.add(time.monotonic() - began)
            self.num_graded += 1
            self._reports[key] = graded
            while len(self._reports) > self.max_entries:
                self._reports.popitem(last=False)
            return graded
        finally:
            flight = self._flights.get(key)
            if flight is not None and flight.task is asyncio.current_task():
                del self._flights[key]
