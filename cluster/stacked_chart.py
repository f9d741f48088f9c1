"""Bars made of parts, one bar a step: where its seconds went."""

from collections.abc import Mapping, Sequence
from html import escape

from cluster.svg_charts import BOTTOM, HEIGHT, LEFT, PALETTE, RIGHT, WIDTH, Axis, frame, label_number, ticks

TOP = 60
"""Room for a legend of two lines."""
COLOURS = (*PALETTE, "#5c6675", "#45a5c4", "#c9cfd8")
MOST_BARS = 60


def stacked_bars(title: str, steps: Sequence[int], parts: Mapping[str, Sequence[float]], x_label: str, y_label: str) -> str:
    """`parts`: name -> a height for every step, drawn from the bottom in this order. Parts without any height are left out; of
    many steps, neighbours are drawn as their mean."""
    shown = {name: list(values) for name, values in parts.items() if any(value > 0 for value in values)}
    if not shown or not steps:
        return f'<div class="none">{escape(title)}: nothing recorded</div>'
    size = -(-len(steps) // MOST_BARS)
    steps = steps[::size]
    shown = {name: [_mean(values[at : at + size]) for at in range(0, len(values), size)] for name, values in shown.items()}
    sums = [sum(values[index] for values in shown.values()) for index in range(len(steps))]
    x = Axis(0, len(steps), LEFT, WIDTH - RIGHT)
    y = Axis(0, max(sums) * 1.05, HEIGHT - BOTTOM, TOP)
    labelled = {int(value): label_number(steps[int(value)]) for value in ticks(0, len(steps) - 1, 6) if value == int(value)}
    svg = frame(title, x_label, y_label, x, y, {index + 0.5: text for index, text in labelled.items()})
    for index, step in enumerate(steps):
        below = 0.0
        for (name, values), colour in zip(shown.items(), COLOURS, strict=False):
            low, high = y.at(below), y.at(below + values[index])
            place = f'x="{x.at(index + 0.1)}" y="{high}" width="{x.at(index + 0.9) - x.at(index + 0.1):.2f}"'
            hover = f"<title>step {step}: {escape(name)} {label_number(values[index])}</title>"
            svg.append(f'<rect {place} height="{low - high:.2f}" fill="{colour}">{hover}</rect>')
            below += values[index]
    return "".join([*svg, *_legend(list(shown)), "</svg>"])


def _legend(names: list[str]) -> list[str]:
    half = -(-len(names) // 2) if len(names) > 5 else len(names)
    parts = []
    for row, line in enumerate((names[:half], names[half:])):
        at = float(LEFT)
        for index, name in enumerate(line):
            colour = COLOURS[(row * half + index) % len(COLOURS)]
            parts.append(f'<circle cx="{at + 4:.1f}" cy="{29 + 15 * row}" r="4.5" fill="{colour}"/>')
            parts.append(f'<text class="a" x="{at + 12:.1f}" y="{33 + 15 * row}">{escape(name)}</text>')
            at += 6.2 * len(name) + 24
    return parts


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
