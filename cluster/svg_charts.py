"""Small charts as inline SVG: lines with optional bands, and bars. No network, no scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 44, 44
STYLE = (
    "svg{background:#fff}.t{font:600 13px system-ui,sans-serif;fill:#1d2430}"
    ".a{font:10.5px system-ui,sans-serif;fill:#5c6675}.g{stroke:#e9edf3;stroke-width:1}"
)
"""Looks of a chart outside report.html, which brings its own."""
PALETTE = ("#2f6fde", "#d9622b", "#2a9d6f", "#8a56c9", "#b08900", "#c2456e")


@dataclass(frozen=True)
class Series:
    """Points (x, y) of one line; `low` and `high`, when given, draw a band of the same length."""

    points: Sequence[tuple[float, float]]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True)
class Axis:
    """A range mapped to pixels.

    >>> Axis(0, 10, 0, 100).at(5)
    50.0
    """

    low: float
    high: float
    start_px: float
    end_px: float

    def at(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.start_px + share * (self.end_px - self.start_px), 2)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values inside [low, high], about `count` of them.

    >>> ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = high - low
    if span <= 0:
        return [low]
    power = 10.0 ** floor(log10(span / count))
    step = next(multiple * power for multiple in (1, 2, 5, 10) if multiple * power >= span / count * 0.99)
    first = ceil(low / step - 1e-9)
    last = floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def label_number(value: float) -> str:
    """A short number for an axis."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def frame(title: str, x_label: str, y_label: str, x: Axis, y: Axis, x_ticks: Mapping[float, str]) -> list[str]:
    """Title, grid and labels shared by all charts."""
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text class="t" x="{LEFT}" y="17">{escape(title)}</text>',
    ]
    for value in ticks(y.low, y.high):
        parts.append(f'<line class="g" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y.at(value)}" y2="{y.at(value)}"/>')
        parts.append(f'<text class="a" x="{LEFT - 6}" y="{y.at(value) + 3.5}" text-anchor="end">{label_number(value)}</text>')
    for value, text in x_ticks.items():
        for row, word in enumerate(text.split("_", 1)):
            place = f'x="{x.at(value)}" y="{HEIGHT - BOTTOM + 13 + 11 * row}" text-anchor="middle"'
            parts.append(f'<text class="a" {place}>{escape(word.replace("_", " "))}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="a" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text class="a" x="12" y="{(TOP + HEIGHT - BOTTOM) / 2}" text-anchor="middle" '
        f'transform="rotate(-90 12 {(TOP + HEIGHT - BOTTOM) / 2})">{escape(y_label)}</text>'
    )
    return parts


def line_chart(
    title: str, series: Mapping[str, Series], x_label: str, y_label: str, y_range: tuple[float, float] | None = None
) -> str:
    """Lines over x with a legend; empty series give a chart that says so."""
    points = [point for line in series.values() for point in line.points]
    if not points:
        return f'<div class="none">{escape(title)}: nothing recorded</div>'
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    low, high = y_range or (min(0.0, min(ys)), (max(ys) or 1.0) * 1.05)
    x = Axis(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y = Axis(low, high, HEIGHT - BOTTOM, TOP)
    parts = frame(title, x_label, y_label, x, y, {value: label_number(value) for value in ticks(x.low, x.high)})
    for index, line in enumerate(series.values()):
        colour = PALETTE[index % len(PALETTE)]
        if line.low:
            upper = [f"{x.at(p[0])},{y.at(h)}" for p, h in zip(line.points, line.high, strict=True)]
            lower = [f"{x.at(p[0])},{y.at(v)}" for p, v in zip(line.points, line.low, strict=True)]
            parts.append(f'<polygon fill="{colour}" opacity="0.13" points="{" ".join(upper + lower[::-1])}"/>')
        path = " ".join(f"{x.at(px)},{y.at(py)}" for px, py in line.points)
        parts.append(f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{path}"/>')
        if len(line.points) <= 12:
            parts.extend(f'<circle cx="{x.at(px)}" cy="{y.at(py)}" r="2.6" fill="{colour}"/>' for px, py in line.points)
    parts.extend(legend(list(series)))
    return "".join([*parts, "</svg>"])


def legend(names: list[str]) -> list[str]:
    """Names with their colours, under the title; a single line needs none."""
    if len(names) < 2:
        return []
    parts, at = [], float(LEFT)
    for index, name in enumerate(names):
        colour = PALETTE[index % len(PALETTE)]
        parts.append(f'<rect x="{at:.1f}" y="25" width="9" height="9" rx="2" fill="{colour}"/>')
        parts.append(f'<text class="a" x="{at + 12:.1f}" y="33">{escape(name)}</text>')
        at += 6.2 * len(name) + 24
    return parts


def bar_chart(title: str, bars: Sequence[tuple[str, float]], x_label: str, y_label: str) -> str:
    """One bar per (label, value), the value written above it."""
    if not bars:
        return f'<div class="none">{escape(title)}: nothing recorded</div>'
    x = Axis(0, len(bars), LEFT, WIDTH - RIGHT)
    y = Axis(0, (max(value for _, value in bars) or 1.0) * 1.12, HEIGHT - BOTTOM, TOP)
    parts = frame(title, x_label, y_label, x, y, {i + 0.5: label for i, (label, _) in enumerate(bars)})
    for index, (_, value) in enumerate(bars):
        left, right, top = x.at(index + 0.12), x.at(index + 0.88), y.at(value)
        size = f'width="{right - left:.2f}" height="{y.at(0) - top:.2f}"'
        parts.append(f'<rect x="{left}" y="{top}" {size} rx="2" fill="{PALETTE[0]}"/>')
        middle = f'x="{(left + right) / 2:.2f}" y="{top - 4}" text-anchor="middle"'
        parts.append(f'<text class="a" {middle}>{label_number(value)}</text>')
    return "".join([*parts, "</svg>"])


def standalone_svg(chart: str) -> str:
    """A chart as a file of its own. Raises ValueError for one that says that nothing was recorded."""
    if not chart.startswith("<svg "):
        raise ValueError("there is nothing to draw")
    head, body = chart.split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>{body}\n'
