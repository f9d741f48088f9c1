"""Choosing what to imitate: trajectories stream through the filters, then caps and splits act on what is left.

Memory: a few numbers per task and per kept trajectory; nothing of the turns.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from envpool.curation.funnel import FunnelCounter, SourceFunnel
from envpool.curation.heldout_split import stable_split
from verifier.trajectory_filter import FilterLimits, Predicate, TrajectoryFacts

PLAYED, DISTINCT, CAPPED, TRAIN = "played", "distinct", "capped", "train"
"""Steps of the funnel beside the filters' names: all stored episodes, without repeated ids, within the cap, not held out."""

Pair = tuple[str, int]
"""(instance_id, sample_index)"""


@dataclass(frozen=True)
class CurationRules:
    """`filters` by name, in order. `max_per_task` 0 keeps all. `heldout_share` of the tasks are set aside by `split_seed`."""

    filters: Mapping[str, Predicate]
    limits: FilterLimits
    max_per_task: int = 0
    heldout_share: float = 0.0
    split_seed: int = 0

    def __post_init__(self) -> None:
        if self.max_per_task < 0:
            raise ValueError(f"curate.max_per_task={self.max_per_task} must not be negative")
        stable_split("", self.heldout_share, self.split_seed)

    @property
    def steps(self) -> tuple[str, ...]:
        cap = (CAPPED,) if self.max_per_task else ()
        return (PLAYED, *self.filters, DISTINCT, *cap, *((TRAIN,) if self.heldout_share else ()))


@dataclass(frozen=True)
class Curation:
    """`train` and `heldout` are in the order read. `fails` counts for every filter how many trajectories it rejects by itself,
    whatever the others say; the funnels count it only where it was the first to reject."""

    train: tuple[Pair, ...]
    heldout: tuple[Pair, ...]
    funnels: tuple[SourceFunnel, ...]
    fails: dict[str, int]


def curate_trajectories(
    stream: Iterable[TrajectoryFacts], rules: CurationRules, source_of: Callable[[str], str], available: Mapping[str, int]
) -> Curation:
    """Filter, take out repeated ids, cap per task, split by task.

    `source_of` names the source of an instance id; `available` gives the number of tasks per source. A pair of instance id
    and sample index that was kept before is dropped at the step `distinct`. Raises TrajectoryFilterError.
    """
    counter = FunnelCounter(rules.steps)
    fails = dict.fromkeys(rules.filters, 0)
    lengths: dict[Pair, int] = {}
    after_filters = len(rules.filters) + 1
    for facts in stream:
        failed = [name for name, keep in rules.filters.items() if not keep(facts, rules.limits)]
        for name in failed:
            fails[name] += 1
        pair = (facts.instance_id, facts.sample_index)
        passed = rules.steps.index(failed[0]) if failed else after_filters
        if not failed and pair not in lengths:
            lengths[pair] = facts.num_tokens
            passed += 1
        counter.keep(source_of(facts.instance_id), facts.instance_id, range(passed))
    chosen = shortest_per_task(lengths, rules.max_per_task)
    sides: dict[str, list[Pair]] = {"train": [], "heldout": []}
    for pair in chosen:
        side = stable_split(pair[0], rules.heldout_share, rules.split_seed)
        sides[side].append(pair)
        last = len(rules.steps) - (1 if side == "heldout" else 0)
        counter.keep(source_of(pair[0]), pair[0], range(after_filters + 1, last))
    return Curation(tuple(sides["train"]), tuple(sides["heldout"]), counter.funnels(available), fails)


def shortest_per_task(lengths: Mapping[Pair, int], max_per_task: int) -> list[Pair]:
    """At most `max_per_task` (0: all) pairs of every instance id, the shortest; ties by sample index, order kept.

    >>> shortest_per_task({("a", 0): 9, ("b", 0): 5, ("a", 1): 3}, 1)
    [('b', 0), ('a', 1)]
    """
    if not max_per_task:
        return list(lengths)
    of_task: dict[str, list[tuple[int, int]]] = {}
    for (instance_id, index), length in lengths.items():
        of_task.setdefault(instance_id, []).append((length, index))
    chosen = {(name, index) for name, found in of_task.items() for _, index in sorted(found)[:max_per_task]}
    return [pair for pair in lengths if pair in chosen]
