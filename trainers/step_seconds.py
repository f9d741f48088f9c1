"""Where every second of a step goes: exclusive spans of the driver's time, the wait for rollouts split by what they did."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from verifier.episode_seconds import EpisodeSeconds
from verifier.reward import Group

LABELS = ("generate", "tool", "queue", "grade", "train", "sync", "checkpoint", "evaluation", "other")
"""Every second of a step is one of these; `other` is the remainder."""
ROLLOUTS = "rollouts"
"""The span of waiting for groups, which `ledger_row` splits."""


class StepSeconds:
    """One step's spans. They must not overlap; what no span covers is `other`. `clock` gives seconds.

    >>> now = iter([0.0, 1.0, 4.0, 5.0])                    # begin, span from 1 to 4, end
    >>> seconds = StepSeconds(lambda: next(now))
    >>> with seconds.span("train"):
    ...     pass
    >>> seconds.close()
    {'train': 3.0, 'other': 2.0, 'wall': 5.0}
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._began = clock()
        self._spent: dict[str, float] = {}
        self._open = ""

    @contextmanager
    def span(self, label: str) -> Iterator[None]:
        """Book the time inside under `label`, also when it ends with an error. Raises ValueError inside another span."""
        if self._open:
            raise ValueError(f"the span {label} would overlap {self._open}")
        self._open, began = label, self._clock()
        try:
            yield
        finally:
            self._open = ""
            self._spent[label] = self._spent.get(label, 0.0) + self._clock() - began

    def spent(self, label: str) -> float:
        """Booked so far."""
        return self._spent.get(label, 0.0)

    def close(self) -> dict[str, float]:
        """The spans, the remainder `other` and their sum `wall`, from the beginning until now."""
        wall = self._clock() - self._began
        return {**self._spent, "other": wall - sum(self._spent.values()), "wall": wall}


def episode_shares(groups: Sequence[Group]) -> dict[str, float]:
    """How the episodes of these groups spent their time: label -> share, summing to 1; all `other` when none says."""
    spent = [member.seconds for group in groups for member in group.members]
    total = sum(seconds.total for seconds in spent)
    if total <= 0:
        return {"other": 1.0}
    return {label: sum(seconds.parts()[label] for seconds in spent) / total for label in EpisodeSeconds().parts()}


def ledger_row(spans: Mapping[str, float], groups: Sequence[Group], engine_queue: float = 0.0) -> dict[str, float]:
    """Closed spans -> `seconds/<label>` for every label and `seconds/wall`; the labels sum to it.

    The wait for rollouts is split as the seconds of the episodes that the step trains on; of the generating part, the share
    `engine_queue` was spent waiting to be let into an engine.
    """
    row = dict.fromkeys(LABELS, 0.0) | {name: value for name, value in spans.items() if name in LABELS}
    for label, share in episode_shares(groups).items():
        row[label] += share * spans.get(ROLLOUTS, 0.0)
    waited = row["generate"] * min(max(engine_queue, 0.0), 1.0)
    row["generate"] -= waited
    row["queue"] += waited
    return {f"seconds/{name}": value for name, value in row.items()} | {"seconds/wall": spans["wall"]}


def episode_metrics(groups: Sequence[Group]) -> dict[str, float]:
    """Mean seconds of an episode by what it did, `episode/<label>_s`; nothing when no episode says."""
    spent = [member.seconds for group in groups for member in group.members if member.seconds.total > 0]
    if not spent:
        return {}
    means = {label: sum(one.parts()[label] for one in spent) / len(spent) for label in EpisodeSeconds().parts()}
    return {f"episode/{label}_s": value for label, value in means.items()} | {
        "episode/total_s": sum(one.total for one in spent) / len(spent)
    }
