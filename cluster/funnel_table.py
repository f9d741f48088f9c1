"""The funnel of a curation as text: a row per step, a column per source."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from envpool.curation.funnel import SourceFunnel


def funnel_table(funnels: Sequence[SourceFunnel], fails: Mapping[str, int]) -> Table:
    """Trajectories left after each step, with the distinct tasks they belong to; `fails` says how many trajectories each
    filter rejects whatever the others say."""
    header, *rows = funnel_rows(funnels, fails)
    table = Table(header[0], title="What curation left: trajectories (tasks)")
    for name in header[1:]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def funnel_markdown(funnels: Sequence[SourceFunnel], fails: Mapping[str, int]) -> str:
    """The same as a Markdown table.

    >>> from envpool.curation.funnel import Funnel
    >>> steps = Funnel((("played", 4), ("resolved", 3))), Funnel((("played", 2), ("resolved", 2)))
    >>> print(funnel_markdown([SourceFunnel("gym", 9, *steps)], {"resolved": 1}))
    | step | gym | rejects by itself |
    |---|---:|---:|
    | tasks | 9 |  |
    | played | 4 (2) |  |
    | resolved | 3 (2) | 1 |
    """
    header, *rows = funnel_rows(funnels, fails)
    lines = ["| " + " | ".join(header) + " |", "|---|" + "---:|" * (len(header) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def funnel_rows(funnels: Sequence[SourceFunnel], fails: Mapping[str, int]) -> list[list[str]]:
    """The table's cells, the header first; no rows without a funnel."""
    rows = [["step", *(funnel.source for funnel in funnels), "rejects by itself"]]
    rows.append(["tasks", *(f"{funnel.available:,}" if funnel.available else "?" for funnel in funnels), ""])
    for step, (name, _) in enumerate(funnels[0].trajectories.steps if funnels else ()):
        cells = [f"{funnel.trajectories.steps[step][1]:,} ({funnel.tasks.steps[step][1]:,})" for funnel in funnels]
        rows.append([name, *cells, f"{fails[name]:,}" if name in fails else ""])
    return rows
