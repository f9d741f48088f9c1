"""Datasets of issues, one adapter each.

To add one: write `<name>_rows.py` with `parse_row(row) -> Task`, which reads a raw row with the helpers of
`envpool.dataset_rows.dataset_row` and raises RowError, and nothing else, for a row it cannot use; add one line here. The image,
the script that runs the hidden tests and the log parser's name must come out of the row, or of a table in this repository:
nothing is downloaded.
"""

from collections.abc import Callable

from envpool.dataset_rows.dataset_row import Row
from envpool.task import Task
from envpool.task_sources import harbor_rows, r2e_gym_rows, swe_bench_rows, swe_gym_rows, swe_rebench_rows, swe_smith_rows

TASK_SOURCES: dict[str, Callable[[Row], Task]] = {
    "harbor": harbor_rows.parse_row,
    "r2e_gym": r2e_gym_rows.parse_row,
    "swe_bench": swe_bench_rows.parse_row,
    "swe_gym": swe_gym_rows.parse_row,
    "swe_rebench": swe_rebench_rows.parse_row,
    "swe_smith": swe_smith_rows.parse_row,
}
