"""Full-text search over stored trajectories: a row group at a time, answers as they are found, with a deadline."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from envpool.trajectories.trajectory_store import TrajectoryFileError, broken_file, open_trajectory_file

PLAIN = ("prompt", "patch", "report_text")
NESTED = ("text", "observation")
SNIPPET = 90
"""Characters shown on each side of what was found."""
MAX_HITS = 2000
WORKERS = 2


@dataclass(frozen=True)
class SearchLimits:
    """When a search ends before everything was read."""

    deadline_s: float = 20.0
    max_hits: int = MAX_HITS


def search(shards: Sequence[tuple[str, Path]], needle: str, limits: SearchLimits) -> Iterator[dict[str, Any]]:
    """{"hit": {shard, row, field, turn, count, before, match, after}} per trajectory that holds `needle`, {"searched": n} after
    each row group, and at the end {"done": True, "searched", "hits", "cut", "problems"}; `cut` says why it ended early.

    Upper and lower case are the same unless `needle` has a capital. `count` is the number of fields and turns it is in.
    """
    ends = time.monotonic() + limits.deadline_s
    searched = hits = 0
    cut = ""
    problems: list[str] = []
    pieces = _row_groups(shards, problems)
    with ThreadPoolExecutor(WORKERS) as pool:
        waiting: list[Future[tuple[list[dict[str, Any]], int]]] = []
        for piece in islice(pieces, WORKERS):
            waiting.append(pool.submit(_search_row_group, *piece, needle))
        while waiting and not cut:
            try:
                found, rows = waiting.pop(0).result()
            except TrajectoryFileError as error:
                problems.append(str(error))
                found, rows = [], 0
            searched += rows
            hits += len(found)
            yield from ({"hit": hit} for hit in found)
            yield {"searched": searched}
            if hits >= limits.max_hits:
                cut = f"stopped after {hits} hits"
            elif time.monotonic() > ends:
                cut = f"stopped after {limits.deadline_s:g} s"
            else:
                waiting += [pool.submit(_search_row_group, *piece, needle) for piece in islice(pieces, 1)]
        if cut and not waiting and next(pieces, None) is None:
            cut = ""
    yield {"done": True, "searched": searched, "hits": hits, "cut": cut, "problems": problems}


def _row_groups(shards: Sequence[tuple[str, Path]], problems: list[str]) -> Iterator[tuple[str, Path, int, int]]:
    """(shard, file, row group, its first row) of everything there is to read."""
    for name, path in shards:
        try:
            with open_trajectory_file(path) as file:
                sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
        except (TrajectoryFileError, OSError) as error:
            problems.append(str(error))
            continue
        for index in range(len(sizes)):
            yield name, path, index, sum(sizes[:index])


def _search_row_group(shard: str, path: Path, index: int, first: int, needle: str) -> tuple[list[dict[str, Any]], int]:
    """The hits of one row group, and how many trajectories it has."""
    with open_trajectory_file(path) as file:
        plain = [name for name in PLAIN if name in file.schema_arrow.names]
        try:
            table = file.read_row_group(index, columns=[*plain, *(f"turns.list.element.{name}" for name in NESTED)])
        except (pa.ArrowException, OSError) as error:
            raise broken_file(path, error) from error
    nested = table["turns"].combine_chunks()
    turns, lengths = nested.flatten(), nested.value_lengths().to_numpy(zero_copy_only=False)
    row_of_turn = np.repeat(np.arange(len(lengths)), lengths)
    first_turn = np.concatenate([[0], np.cumsum(lengths)])
    hits: dict[int, dict[str, Any]] = {}

    def note(row: int, field: str, turn: int, text: str) -> None:
        if row in hits:
            hits[row]["count"] += 1
        else:
            hits[row] = {"shard": shard, "row": first + row, "field": field, "turn": turn, "count": 1, **snippet(text, needle)}

    for name in plain:
        column = table[name].combine_chunks()
        for row in _matches(column, needle):
            note(row, name, -1, column[row].as_py())
    for name in NESTED:
        column = turns.field(name)
        for place in _matches(column, needle):
            row = int(row_of_turn[place])
            note(row, name, place - int(first_turn[row]), column[place].as_py())
    return [hits[row] for row in sorted(hits)], len(lengths)


def _matches(column: Any, needle: str) -> list[int]:
    found = pc.indices_nonzero(pc.fill_null(pc.match_substring(column, needle, ignore_case=not has_capital(needle)), False))
    places: list[int] = found.to_pylist()
    return places


def has_capital(needle: str) -> bool:
    return needle != needle.lower()


def snippet(text: str, needle: str) -> dict[str, str]:
    """What was found and what stands around it, on one line.

    >>> snippet("one Two three", "two")
    {'before': 'one ', 'match': 'Two', 'after': ' three'}
    """
    at = text.find(needle) if has_capital(needle) else text.lower().find(needle)
    if at < 0:  # a letter whose lower case has another length
        at = 0
    end = at + len(needle)
    start = max(at - SNIPPET, 0)
    return {
        name: part.replace("\n", " ")
        for name, part in (("before", text[start:at]), ("match", text[at:end]), ("after", text[end : end + SNIPPET]))
    }
