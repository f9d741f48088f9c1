"""Choosing where to break a package: every place every operator knows, in a seeded order that mixes the operators."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from envpool.bug_operators import BUG_OPERATORS
from envpool.source_edit import SourceEdit, SourceModule


@dataclass(frozen=True)
class CandidateBug:
    """One broken version of one file. `line` (from 1) is where the change starts; `function` its qualified name."""

    operator: str
    path: str
    function: str
    line: int
    before: str
    after: str


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
            return CandidateBug(operator, path, edit.function, line, module.data.decode(), changed.decode())
    return None


def _parsed(data: bytes) -> SourceModule | None:
    try:
        return SourceModule(data)
    except ValueError:
        return None
