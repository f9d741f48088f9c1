"""Choosing what to train on: a split that never moves, and issues that must not be in two sets at once."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from envpool.problem import Problem


@dataclass(frozen=True)
class Duplicate:
    """One problem statement that several tasks share; `members` are (set name, instance id), in reading order."""

    members: tuple[tuple[str, str], ...]

    @property
    def sets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name, _ in self.members))


@dataclass(frozen=True)
class Decontamination:
    """Training problems that stay, and those that also occur in the held-out set (by id or by text)."""

    kept: tuple[Problem, ...]
    removed: tuple[Problem, ...]


def stable_split(instance_id: str, heldout_share: float, seed: int) -> str:
    """`train` or `heldout`, a function of its arguments alone: adding tasks to a set never moves another task.

    Raising the share only moves tasks from train to heldout.

    >>> stable_split("astropy__astropy-12907", 0.0, seed=0)
    'train'
    """
    if not 0.0 <= heldout_share <= 1.0:
        raise ValueError(f"heldout_share={heldout_share:g} must be between 0 and 1")
    digest = hashlib.sha256(f"{seed}:{instance_id}".encode()).digest()
    return "heldout" if int.from_bytes(digest[:7]) / 2**56 < heldout_share else "train"


def find_duplicates(sets: Mapping[str, Iterable[Problem]]) -> tuple[Duplicate, ...]:
    """Problem statements that occur more than once in or between the named sets, compared after folding white space."""
    members: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, problems in sets.items():
        for problem in problems:
            members[_folded(problem.problem_statement)].append((name, problem.instance_id))
    return tuple(Duplicate(tuple(found)) for found in members.values() if len(found) > 1)


def decontaminate(train: Iterable[Problem], heldout: Iterable[Problem]) -> Decontamination:
    """Take out of `train` whatever the held-out set has too: same instance id or same problem statement."""
    heldout = list(heldout)
    ids = {problem.instance_id for problem in heldout}
    texts = {_folded(problem.problem_statement) for problem in heldout}
    kept: list[Problem] = []
    removed: list[Problem] = []
    for problem in train:
        clash = problem.instance_id in ids or _folded(problem.problem_statement) in texts
        (removed if clash else kept).append(problem)
    return Decontamination(tuple(kept), tuple(removed))


def _folded(text: str) -> str:
    return " ".join(text.split())
