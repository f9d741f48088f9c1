"""The funnel of a curation as a picture: a bar per step, its parts the sources, and what each step took out."""

from collections.abc import Sequence
from html import escape

from cluster.svg_charts import PALETTE, Axis, legend
from envpool.curation.funnel import ALL, SourceFunnel

CHART_WIDTH = 640
NAMES_PX, NUMBERS_PX = 132, 176
BAR_PX, STEP_PX, HEAD_PX = 20, 32, 52


def funnel_chart(title: str, funnels: Sequence[SourceFunnel]) -> str:
    """Inline SVG. Bars are trajectories; beside each its number, its tasks, and what the step dropped."""
    parts_of = [funnel for funnel in funnels if funnel.source != ALL]
    steps = [name for name, _ in parts_of[0].trajectories.steps] if parts_of else []
    if not steps:
        return f'<div class="none">{escape(title)}: nothing recorded</div>'
    parts_of = [funnel for funnel in parts_of if funnel.trajectories.steps[0][1]] or parts_of
    totals = [sum(funnel.trajectories.steps[step][1] for funnel in parts_of) for step in range(len(steps))]
    tasks = [sum(funnel.tasks.steps[step][1] for funnel in parts_of) for step in range(len(steps))]
    height = HEAD_PX + STEP_PX * len(steps) + 8
    x = Axis(0, max(totals[0], 1), NAMES_PX, CHART_WIDTH - NUMBERS_PX)
    svg = [
        f'<svg class="wide" viewBox="0 0 {CHART_WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f'<text class="t" x="14" y="20">{escape(title)}</text>',
        *_shifted_legend([funnel.source for funnel in parts_of]),
    ]
    for step, name in enumerate(steps):
        top = HEAD_PX + STEP_PX * step
        middle = top + BAR_PX / 2 + 3.5
        label = escape(name.replace("_", " "))
        svg.append(f'<text class="a" x="{NAMES_PX - 8}" y="{middle}" text-anchor="end">{label}</text>')
        svg.extend(_bars(x, top, [funnel.trajectories.steps[step][1] for funnel in parts_of]))
        dropped = f" −{totals[step - 1] - totals[step]:,}" if step and totals[step - 1] > totals[step] else ""
        words = f"{totals[step]:,} from {tasks[step]:,} task{'' if tasks[step] == 1 else 's'}"
        end = round(x.at(totals[step]) + 7, 2)
        svg.append(f'<text class="a" x="{end}" y="{middle}">{words}<tspan fill="#c2456e">{dropped}</tspan></text>')
    return "".join([*svg, "</svg>"])


def _bars(x: Axis, top: float, counts: Sequence[int]) -> list[str]:
    """The parts of one step side by side, over a pale line that shows where the first step ended."""
    parts = [f'<rect x="{x.at(0)}" y="{top}" width="{x.at(x.high) - x.at(0):.2f}" height="{BAR_PX}" fill="#f1f4f9" rx="2"/>']
    before = 0
    for index, count in enumerate(counts):
        if count:
            left, right = x.at(before), x.at(before + count)
            colour = PALETTE[index % len(PALETTE)]
            parts.append(f'<rect x="{left}" y="{top}" width="{right - left:.2f}" height="{BAR_PX}" fill="{colour}"/>')
        before += count
    return parts


def _shifted_legend(names: list[str]) -> list[str]:
    marks = legend(names)
    return ['<g transform="translate(-38 4)">', *marks, "</g>"] if marks else []
