"""How many tasks and trajectories each step of curation left, per source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ALL = "all"
"""The sum over the sources, as a row of its own."""


@dataclass(frozen=True)
class Funnel:
    """Steps in order, each with what was left after it; counts never grow.

    >>> Funnel((("read", 10),)).then("mixed results", 4).dropped
    (('mixed results', 6),)
    """

    steps: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        for (_, before), (name, kept) in zip(self.steps, self.steps[1:], strict=False):
            if not 0 <= kept <= before:
                raise ValueError(f"step {name!r} keeps {kept} of {before}")

    def then(self, name: str, kept: int) -> "Funnel":
        """This funnel with one more step."""
        return Funnel((*self.steps, (name, kept)))

    @property
    def dropped(self) -> tuple[tuple[str, int], ...]:
        """What every step but the first took out."""
        return tuple((name, before - kept) for (_, before), (name, kept) in zip(self.steps, self.steps[1:], strict=False))


@dataclass(frozen=True)
class SourceFunnel:
    """One source's funnel, counted in trajectories and in the distinct tasks they belong to. `available` is the number of
    tasks of this source there were to play (0 where it is not known)."""

    source: str
    available: int
    trajectories: Funnel
    tasks: Funnel

    def as_dict(self) -> dict[str, Any]:
        """For the run record; `funnel_from_dict` is its inverse."""
        return {
            "source": self.source,
            "available": self.available,
            "trajectories": self.trajectories.steps,
            "tasks": self.tasks.steps,
        }


def funnel_from_dict(record: Mapping[str, Any]) -> SourceFunnel:
    """A funnel out of a run record. Raises ValueError when it is none."""
    try:
        trajectories, tasks = (
            Funnel(tuple((str(name), int(kept)) for name, kept in record[key])) for key in ("trajectories", "tasks")
        )
        return SourceFunnel(str(record["source"]), int(record["available"]), trajectories, tasks)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a funnel: {error}") from error


class FunnelCounter:
    """Counts while trajectories stream by. Holds a set of task ids per step and source, nothing per trajectory."""

    def __init__(self, steps: Sequence[str]) -> None:
        self._steps = tuple(steps)
        self._trajectories: dict[str, list[int]] = {}
        self._tasks: dict[str, list[set[str]]] = {}

    def keep(self, source: str, instance_id: str, steps: range) -> None:
        """One trajectory that is counted in the steps of these positions."""
        counts = self._trajectories.setdefault(source, [0] * len(self._steps))
        tasks = self._tasks.setdefault(source, [set() for _ in self._steps])
        for step in steps:
            counts[step] += 1
            tasks[step].add(instance_id)

    def funnels(self, available: Mapping[str, int]) -> tuple[SourceFunnel, ...]:
        """One funnel per source, those with most trajectories first, then the sum when there are several sources."""
        sources = sorted({*self._trajectories, *available}, key=lambda name: (-self._counts(name)[0], name))
        rows = [self._row(name, available.get(name, 0), self._counts(name), self._sizes(name)) for name in sources]
        if len(rows) != 1:
            columns = [[count(name)[step] for name in sources] for count in (self._counts, self._sizes) for step in self._range]
            sums = [sum(column) for column in columns]
            rows.append(self._row(ALL, sum(available.values()), sums[: len(self._steps)], sums[len(self._steps) :]))
        return tuple(rows)

    @property
    def _range(self) -> range:
        return range(len(self._steps))

    def _counts(self, source: str) -> list[int]:
        return self._trajectories.get(source, [0] * len(self._steps))

    def _sizes(self, source: str) -> list[int]:
        return [len(found) for found in self._tasks.get(source, [set() for _ in self._steps])]

    def _row(self, source: str, available: int, trajectories: list[int], tasks: list[int]) -> SourceFunnel:
        names = self._steps
        funnels = (Funnel(tuple(zip(names, counts, strict=True))) for counts in (trajectories, tasks))
        return SourceFunnel(source, available, *funnels)
