"""Choosing what to train on: a split that never moves, and issues that must not be in two sets at once."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from envpool.curation.issue_index import DEFAULT_SIMILARITY, IssueIndex
from envpool.problem import Problem


@dataclass(frozen=True)
class Duplicate:
    """One problem statement that several tasks share; `members` are (set name, instance id), in reading order."""

    members: tuple[tuple[str, str], ...]

    @property
    def sets(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for name, _ in self.members))


@dataclass(frozen=True)
class Clash:
    """Why a task may not be trained on: the `reason` (instance id, repository, issue text), the held-out task it clashes with,
    and the similarity of the issue texts (0 to 1; 0.0 where the reason is another one)."""

    instance_id: str
    reason: str
    heldout_id: str
    similarity: float


@dataclass(frozen=True)
class NearDuplicate:
    """A task whose issue text is nearly that of an earlier task of the same set."""

    instance_id: str
    earlier_id: str
    similarity: float


@dataclass(frozen=True)
class Decontamination:
    """Training problems that stay, and why each of the others was taken out."""

    kept: tuple[Problem, ...]
    clashes: tuple[Clash, ...]


class HeldoutSet:
    """What is evaluated on, and therefore must not be trained on.

    `repositories`: a whole repository of the held-out set is out, not only its held-out issues. Repositories are compared
    without case; where one side lacks the owner, by name alone. `similarity` as in `IssueIndex`.
    """

    def __init__(self, problems: Iterable[Problem], *, repositories: bool = True, similarity: float = DEFAULT_SIMILARITY) -> None:
        self._index = IssueIndex(similarity)
        self._repositories: dict[str, str] = {}
        self._owners: defaultdict[str, set[str]] = defaultdict(set)
        self._ids: set[str] = set()
        for problem in problems:
            if problem.instance_id in self._ids:
                continue
            self._ids.add(problem.instance_id)
            self._index.add(problem.instance_id, problem.problem_statement)
            if repositories:
                owner, _, name = problem.repo.lower().rpartition("/")
                self._owners[name].add(owner)
                self._repositories.setdefault(problem.repo.lower(), problem.instance_id)

    def __len__(self) -> int:
        return len(self._ids)

    def clash(self, problem: Problem) -> Clash | None:
        """The first reason against training on `problem`, None when there is none."""
        if problem.instance_id in self._ids:
            return Clash(problem.instance_id, "instance id", problem.instance_id, 0.0)
        if (heldout_id := self._same_repository(problem.repo.lower())) is not None:
            return Clash(problem.instance_id, "repository", heldout_id, 0.0)
        if (nearest := self._index.nearest(problem.problem_statement)) is not None:
            return Clash(problem.instance_id, "issue text", nearest[0], nearest[1])
        return None

    def _same_repository(self, repo: str) -> str | None:
        owner, _, name = repo.rpartition("/")
        owners = self._owners.get(name, set())
        if owner in owners:
            return self._repositories[repo]
        if "" in owners:
            return self._repositories[name]
        if owners and not owner:
            return self._repositories[f"{min(owners)}/{name}"]
        return None


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
            members[" ".join(problem.problem_statement.split())].append((name, problem.instance_id))
    return tuple(Duplicate(tuple(found)) for found in members.values() if len(found) > 1)


def decontaminate(
    train: Iterable[Problem],
    heldout: Iterable[Problem],
    *,
    repositories: bool = True,
    similarity: float = DEFAULT_SIMILARITY,
) -> Decontamination:
    """Take out of `train` what the held-out set has too: the same instance id, repository, or nearly the same issue text."""
    heldout_set = HeldoutSet(heldout, repositories=repositories, similarity=similarity)
    kept: list[Problem] = []
    clashes: list[Clash] = []
    for problem in train:
        if (clash := heldout_set.clash(problem)) is None:
            kept.append(problem)
        else:
            clashes.append(clash)
    return Decontamination(tuple(kept), tuple(clashes))
