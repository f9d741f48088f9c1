"""Difficulty statistics of result files, as a table or JSON."""

from dataclasses import asdict
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from envpool.difficulty import difficulty_statistics


def print_difficulty(paths: list[Path], as_json: bool) -> None:
    """One row (or JSON object) per file: rows, all_fail, mixed, all_pass."""
    counts = [(path, difficulty_statistics(path)) for path in paths]
    if as_json:
        for path, row in counts:
            print(orjson.dumps({"file": str(path), **asdict(row)}).decode())
        return
    table = Table("file", "rows", "all fail", "mixed", "all pass")
    for path, row in counts:
        table.add_row(path.name, *(f"{number:,}" for number in (row.rows, row.all_fail, row.mixed, row.all_pass)))
    Console().print(table)
