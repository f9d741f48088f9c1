"""Difficulty statistics of result files, as a table or JSON."""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from envpool.curation.difficulty import (
    DifficultyCounts,
    DifficultyError,
    difficulty_histogram,
    difficulty_statistics,
    read_reward_means,
)

TOTAL = "(all files)"
QUANTITIES = {
    "rows": "rows",
    "distinct keys": "unique_keys",
    "all fail (mean 0)": "all_fail",
    "mixed": "mixed",
    "all pass (mean 1)": "all_pass",
    "RL band, 0.4 to 1": "rl_band",
    "keys that repeat": "repeated_keys",
    "keys in conflict": "conflicting_keys",
}


def print_difficulty(paths: list[Path], as_json: bool, total: bool = False) -> None:
    """One row (or JSON object) per file; with `total` a last one for all files together. Raises DifficultyError."""
    rows: list[tuple[str, str, DifficultyCounts, list[Path]]] = [
        (str(path), path.name, difficulty_statistics(path), [path]) for path in paths
    ]
    if total:
        rows.append((TOTAL, TOTAL, difficulty_statistics(*paths), paths))
    if as_json:
        for name, _, counts, files in rows:
            histogram = difficulty_histogram(means_of(files))
            print(orjson.dumps({"file": name, **asdict(counts), "histogram": histogram}).decode())
        return
    table = Table("", *(name for _, name, _, _ in rows))
    for title, field in QUANTITIES.items():
        table.add_row(title, *(f"{getattr(counts, field):,}" for _, _, counts, _ in rows))
    table.add_row("broken lines", *(f"{len(counts.broken):,}" for _, _, counts, _ in rows))
    table.add_row("mean of rows", *(f"{counts.mean:.3f}" for _, _, counts, _ in rows))
    Console().print(table)
    for _, _, counts, _ in rows[: len(paths)]:
        for message in counts.broken[:10]:
            print(f"left out: {message}")


def means_of(paths: list[Path]) -> Iterable[float]:
    """The means of all readable lines."""
    return (mean for path in paths for mean in read_reward_means(path) if not isinstance(mean, DifficultyError))
