"""Where the turns of each group stand in a run's journals: whoever resumes reads every journal once, not once per group."""

import re
from array import array
from collections.abc import Iterator
from pathlib import Path

from envpool.agent.turn_journal import JournalEntry, journal_entry

_SEED = re.compile(rb'"seed":(\d+),')


class JournalIndex:
    """The journals `folder/*.jsonl`. Holds 8 bytes a turn and no turn itself. For one thread at a time.

    Every question first reads what was written since the last one, journals that are new included.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._places: dict[int, dict[Path, array[int]]] = {}

    def seeds(self) -> set[int]:
        """Of all groups that have a turn in one of the journals."""
        self._read_on()
        return set(self._places)

    def entries(self, seed: int) -> list[list[JournalEntry]]:
        """The turns of the group with this seed in the order written, a list for each journal that has any; decodes no others.

        Raises ValueError for a line that is no turn.
        """
        self._read_on()
        return [list(_entries(path, places)) for path, places in sorted(self._places.get(seed, {}).items())]

    def _read_on(self) -> None:
        for path in sorted(self._folder.glob("*.jsonl")):
            place = self._read.get(path, 0)
            with path.open("rb") as file:
                file.seek(place)
                for line in file:
                    if not line.endswith(b"\n"):
                        break  # still being written, or cut off by a death
                    if (found := _SEED.search(line)) is not None:
                        self._places.setdefault(int(found[1]), {}).setdefault(path, array("q")).append(place)
                    place += len(line)
            self._read[path] = place


def _entries(path: Path, places: "array[int]") -> Iterator[JournalEntry]:
    with path.open("rb") as file:
        for place in places:
            file.seek(place)
            yield journal_entry(file.readline(), f"{path}, byte {place}")
