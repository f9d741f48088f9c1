"""The funnel of a curation in the terminal: a row per source, a column per step."""

from collections.abc import Sequence

from rich.table import Table

from envpool.funnel import SourceFunnel


def funnel_table(funnels: Sequence[SourceFunnel]) -> Table:
    """Trajectories left after each step, with the distinct tasks they belong to below."""
    names = [name for name, _ in funnels[0].trajectories.steps] if funnels else []
    table = Table("source", "tasks", *names, title="What curation left: trajectories (tasks)")
    for funnel in funnels:
        pairs = zip(funnel.trajectories.steps, funnel.tasks.steps, strict=True)
        cells = [f"{kept:,}\n({tasks:,})" for (_, kept), (_, tasks) in pairs]
        table.add_row(funnel.source, f"{funnel.available:,}" if funnel.available else "?", *cells)
    return table


def funnel_markdown(funnels: Sequence[SourceFunnel]) -> str:
    """The same as a Markdown table.

    >>> from envpool.funnel import Funnel
    >>> print(funnel_markdown([SourceFunnel("gym", 9, Funnel((("played", 4),)), Funnel((("played", 2),)))]))
    | source | tasks | played |
    |---|---|---|
    | gym | 9 | 4 (2) |
    """
    names = [name for name, _ in funnels[0].trajectories.steps] if funnels else []
    lines = ["| " + " | ".join(["source", "tasks", *names]) + " |", "|" + "---|" * (len(names) + 2)]
    for funnel in funnels:
        pairs = zip(funnel.trajectories.steps, funnel.tasks.steps, strict=True)
        cells = [f"{kept:,} ({tasks:,})" for (_, kept), (_, tasks) in pairs]
        lines.append("| " + " | ".join([funnel.source, f"{funnel.available:,}" if funnel.available else "?", *cells]) + " |")
    return "\n".join(lines)
