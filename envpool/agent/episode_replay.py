"""Going on with an episode that broke: its journalled turns are played again in a fresh sandbox, then sampling goes on.

A sandbox's state is what its commands made of the image, so the journal is the snapshot: replaying needs no help from the
engine, works the same for every backend, restores the shell's variables and working directory as well, and costs nothing while
nobody dies (a `docker commit` per turn would; benchmarks/sandbox_reset.py has the numbers). A replayed turn keeps the
observation that the model was shown, so that no completion stands behind a prompt that it was not sampled from and only the
turn in flight is sampled again; what a repeated command prints otherwise (a duration, a random number) is not shown.
"""

from collections.abc import Iterable, Sequence

from envpool.agent.journal_index import JournalIndex
from envpool.agent.turn_journal import JournalEntry
from envpool.trajectory import Turn


def journalled_group(journals: JournalIndex, instance_id: str, group_size: int, seed: int) -> dict[int, tuple[Turn, ...]]:
    """What the journals hold of a group: sample_index to turns, unstarted episodes left out.

    An episode that went on elsewhere has its first turns in one journal and the next ones in another.
    """
    found: dict[int, list[list[JournalEntry]]] = {}
    for written in journals.entries(seed):
        by_sample: dict[int, list[JournalEntry]] = {}
        for entry in written:
            if entry.instance_id == instance_id and entry.sample_index < group_size:
                by_sample.setdefault(entry.sample_index, []).append(entry)
        for sample, entries in by_sample.items():
            found.setdefault(sample, []).append(entries)
    turns = {sample: _longest(parts) for sample, parts in sorted(found.items())}
    return {sample: chain for sample, chain in turns.items() if chain}


def _longest(parts: Sequence[list[JournalEntry]]) -> tuple[Turn, ...]:
    """The longest record that begins in one part and may go on in others."""
    best: tuple[Turn, ...] = ()
    for first in range(len(parts)):
        chain: tuple[Turn, ...] = ()
        rest = [first, *(index for index in range(len(parts)) if index != first)]
        while rest:
            longer = {index: _continued(chain, parts[index]) for index in rest}
            index = rest[0] if not chain else max(rest, key=lambda part: len(longer[part]))
            if len(longer[index]) <= len(chain):
                break
            chain = longer[index]
            rest.remove(index)
        best = max(best, chain, key=len)
    return best


def _continued(chain: tuple[Turn, ...], entries: Iterable[JournalEntry]) -> tuple[Turn, ...]:
    """`chain` with what follows it in one journal; a second turn 0 there begins the record anew."""
    turns = list(chain)
    for entry in entries:
        if entry.turn_index == 0 and not chain:
            turns.clear()
        if entry.turn_index == len(turns):
            turns.append(entry.turn)
    return tuple(turns)
