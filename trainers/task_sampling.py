"""Which tasks a step plays: a seeded shuffle, epoch after epoch, optionally only tasks that are neither solved nor hopeless.

Pure: the same arguments give the same tasks, so a resumed run sees the order of an unbroken one.
"""

import itertools
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class GroupOutcome:
    """What a trained group says about its task: episodes graded and resolved, and for each truncated one (whose
    outcome earns alpha) whether it was right."""

    step: int
    instance_id: str
    episodes: int
    resolved: int
    truncated: tuple[bool, ...]


def shuffled_tasks(task_ids: Sequence[str], groups_per_step: int, seed: int, step: int) -> list[str]:
    """The tasks of one step, each task once an epoch.

    >>> shuffled_tasks(["a", "b"], 2, 0, 0) == shuffled_tasks(["b", "a"], 2, 0, 0)
    True
    """
    chosen = []
    orders: dict[int, list[str]] = {}
    for position in range(step * groups_per_step, (step + 1) * groups_per_step):
        epoch, index = divmod(position, len(task_ids))
        if epoch not in orders:
            orders[epoch] = sorted(task_ids)
            random.Random(f"grpo/{seed}/{epoch}").shuffle(orders[epoch])
        chosen.append(orders[epoch][index])
    return chosen


def banded_tasks(planned: Sequence[str], in_band: Sequence[str], seed: int, step: int) -> list[str]:
    """The planned tasks, those outside the band replaced by others inside it (each at most once while there are enough)."""
    inside = set(in_band)
    rest = sorted(inside - set(planned)) or sorted(inside)
    draw = random.Random(f"grpo/{seed}/band/{step}")
    draw.shuffle(rest)
    spare = itertools.cycle(rest)
    return [name if name in inside else next(spare) for name in planned]


def replacement_tasks(task_ids: Sequence[str], used: Iterable[str], count: int, seed: int, step: int, round_: int) -> list[str]:
    """`count` other tasks than those the step has used; fewer when there are no more."""
    spare = sorted(set(task_ids) - set(used))
    random.Random(f"grpo/{seed}/replace/{step}/{round_}").shuffle(spare)
    return spare[:count]


def solve_rates(outcomes: Iterable[GroupOutcome], min_episodes: int) -> dict[str, float]:
    """Share of resolved episodes of each task with at least `min_episodes` graded ones."""
    episodes: dict[str, int] = {}
    resolved: dict[str, int] = {}
    for outcome in outcomes:
        episodes[outcome.instance_id] = episodes.get(outcome.instance_id, 0) + outcome.episodes
        resolved[outcome.instance_id] = resolved.get(outcome.instance_id, 0) + outcome.resolved
    return {name: resolved[name] / count for name, count in episodes.items() if count >= max(min_episodes, 1)}


def tasks_in_band(task_ids: Sequence[str], rates: Mapping[str, float], band: tuple[float, float]) -> list[str]:
    """The tasks whose rate is within `band` (ends included) or not known yet; all tasks when none is left.

    rates a 0, b 0.5, c 1 with band (0.1, 0.9) and a task d without a rate -> b d
    """
    low, high = band
    kept = [name for name in task_ids if name not in rates or low <= rates[name] <= high]
    return kept or list(task_ids)
