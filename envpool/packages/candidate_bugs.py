"""Choosing where to break a package: every place every operator knows, in a seeded order that mixes the operators; and
several bugs as one."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

from envpool.bug_operators import BUG_OPERATORS
from envpool.packages.source_edit import SourceEdit, SourceModule

COMBINED = "combined"
"""What stands for the operator in the name of a task with several bugs."""


@dataclass(frozen=True)
class CandidateBug:
    """One broken version of one file. `line` (from 1) is where the change starts; `function` the qualified name of the
    outermost function around it, which stands on `first_line` (its decorators included) to `last_line`."""

    operator: str
    path: str
    function: str
    line: int
    before: str
    after: str
    edit: SourceEdit
    first_line: int
    last_line: int


@dataclass(frozen=True)
class BugSet:
    """The bugs of one task, usually one. Of several, each is in a function of its own."""

    bugs: tuple[CandidateBug, ...]

    @property
    def operator(self) -> str:
        return self.bugs[0].operator if len(self.bugs) == 1 else COMBINED

    @property
    def changes(self) -> dict[str, tuple[str, str]]:
        """Path -> text before and after, in the order of paths."""
        changes = {}
        for path in sorted({bug.path for bug in self.bugs}):
            here = [bug for bug in self.bugs if bug.path == path]
            data = here[0].before.encode()
            for bug in sorted(here, key=lambda bug: bug.edit.start, reverse=True):
                data = data[: bug.edit.start] + bug.edit.replacement.encode() + data[bug.edit.end :]
            changes[path] = (here[0].before, data.decode())
        return changes


def candidate_bugs(sources: Mapping[str, bytes], operators: tuple[str, ...], seed: int) -> Iterator[CandidateBug]:
    """Bugs in `sources` (path -> content), one operator after the other in turn, each place at most once per operator.

    The same arguments give the same bugs in the same order. Files that are no UTF-8 Python are passed over. Raises
    ValueError for an unknown operator.
    """
    unknown = [name for name in operators if name not in BUG_OPERATORS]
    if unknown:
        raise ValueError(f"unknown bug operator {unknown[0]!r}; known: {', '.join(BUG_OPERATORS)}")
    modules = {path: module for path, data in sorted(sources.items()) if (module := _parsed(data)) is not None}
    rng = random.Random(seed)
    queues = []
    for name in operators or tuple(BUG_OPERATORS):
        edits = [(name, path, edit) for path, module in modules.items() for edit in BUG_OPERATORS[name](module)]
        rng.shuffle(edits)
        queues.append(edits)
    seen: set[tuple[str, bytes]] = set()
    while queues:
        for queue in queues:
            bug = _next_bug(queue, modules, seen)
            if bug is not None:
                yield bug
        queues = [queue for queue in queues if queue]


def bug_combinations(bugs: tuple[CandidateBug, ...], size: int, seed: int) -> Iterator[BugSet]:
    """Sets of `size` bugs in different functions, in a seeded order, turn by turn of one file and of several files
    where there are such. Bugs that were used least come first; no set comes twice.
    """
    order = list(bugs)
    random.Random(f"combinations {seed}").shuffle(order)
    used = dict.fromkeys(order, 0)
    drawn: set[frozenset[CandidateBug]] = set()
    same_file = False
    while size > 1:
        same_file = not same_file
        order.sort(key=used.__getitem__)
        chosen = _fresh_set(order, size, same_file, drawn) or _fresh_set(order, size, not same_file, drawn)
        if chosen is None:
            return
        drawn.add(frozenset(chosen))
        for bug in chosen:
            used[bug] += 1
        yield BugSet(chosen)


def _fresh_set(
    order: list[CandidateBug], size: int, same_file: bool, drawn: set[frozenset[CandidateBug]]
) -> tuple[CandidateBug, ...] | None:
    for first in order:
        others = [bug for bug in order if (bug.path == first.path) == same_file]
        for rest in combinations(others, size - 1):
            chosen = tuple(sorted((first, *rest), key=lambda bug: (bug.path, bug.edit.start)))
            if _independent(chosen) and frozenset(chosen) not in drawn:
                return chosen
    return None


def _independent(bugs: tuple[CandidateBug, ...]) -> bool:
    return len({(bug.path, bug.first_line) for bug in bugs}) == len(bugs)


def _next_bug(
    queue: list[tuple[str, str, SourceEdit]], modules: dict[str, SourceModule], seen: set[tuple[str, bytes]]
) -> CandidateBug | None:
    while queue:
        operator, path, edit = queue.pop()
        module = modules[path]
        changed = module.apply(edit)
        if changed is not None and (path, changed) not in seen:
            seen.add((path, changed))
            line = module.data[: edit.start].count(b"\n") + 1
            first, last = module.function_lines(line)
            before, after = module.data.decode(), changed.decode()
            return CandidateBug(operator, path, edit.function, line, before, after, edit, first, last)
    return None


def _parsed(data: bytes) -> SourceModule | None:
    try:
        return SourceModule(data)
    except ValueError:
        return None
