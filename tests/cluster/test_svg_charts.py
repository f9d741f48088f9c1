import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.grpo_learning import write_pictures
from cluster.funnel_chart import funnel_chart
from cluster.svg_charts import PALETTE, Axis, Series, bar_chart, label_number, line_chart, standalone_svg, ticks
from envpool.curation.funnel import Funnel, SourceFunnel


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 25, [0.0, 5.0, 10.0, 15.0, 20.0, 25.0]),
        (1, 8, [2.0, 4.0, 6.0, 8.0]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


def test_axis_maps_the_ends_and_an_empty_range() -> None:
    assert Axis(0, 10, 100, 0).at(10) == 0
    assert Axis(5, 5, 20, 80).at(5) == 20


def test_label_number() -> None:
    assert [label_number(v) for v in (0.25, 3.0, 12345.6)] == ["0.25", "3", "12,346"]


def test_line_chart_is_xml_with_one_line_and_band_per_series() -> None:
    band = Series([(1, 0.3), (2, 0.5)], [0.2, 0.4], [0.4, 0.6])
    root = ElementTree.fromstring(line_chart("<pass>", {"a": band, "b": Series([(1, 0.1)])}, "x", "y", (0, 1)))
    assert len(root.findall("polyline")) == 2
    assert len(root.findall("polygon")) == 1
    assert root.findall("text")[0].text == "<pass>"


def test_bar_chart_heights_are_proportional() -> None:
    root = ElementTree.fromstring(bar_chart("t", [("a", 10), ("b", 5)], "x", "y"))
    heights = [float(bar.get("height", "0")) for bar in root.findall("rect")]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.02)


def test_charts_without_data_say_so() -> None:
    assert "nothing recorded" in line_chart("t", {"a": Series([])}, "x", "y")
    assert "nothing recorded" in bar_chart("t", [], "x", "y")


# --- funnels


def funnel(source: str, *rows: tuple[str, int, int]) -> SourceFunnel:
    trajectories, tasks = (Funnel(tuple((row[0], row[column]) for row in rows)) for column in (1, 2))
    return SourceFunnel(source, 9, trajectories, tasks)


FUNNELS = [
    funnel("gym", ("played", 30, 6), ("resolved", 10, 3)),
    funnel("<smith>", ("played", 10, 2), ("resolved", 0, 0)),
    funnel("idle", ("played", 0, 0), ("resolved", 0, 0)),
    funnel("all", ("played", 40, 8), ("resolved", 10, 3)),
]


def test_funnel_bars_are_stacked_by_source_and_proportional() -> None:
    root = ElementTree.fromstring(funnel_chart("Left <over>", FUNNELS))
    bars = [bar for bar in root.findall("rect") if bar.get("fill") in PALETTE]
    widths = [float(bar.get("width", "0")) for bar in bars]
    assert len(bars) == 3  # two parts of the first step, one of the second
    assert widths[0] == pytest.approx(3 * widths[1], abs=0.05)
    assert widths[0] == pytest.approx(3 * widths[2], abs=0.05)
    assert float(bars[1].get("x", "0")) == pytest.approx(float(bars[0].get("x", "0")) + widths[0], abs=0.05)
    texts = [text for element in root.iter() if (text := element.text)]
    assert texts[0] == "Left <over>"
    assert {"40 from 8 tasks", "10 from 3 tasks", " −30", "gym", "<smith>"} <= set(texts)
    assert "idle" not in texts


def test_a_funnel_of_one_source_needs_no_legend_and_one_of_none_says_so() -> None:
    texts = [element.text for element in ElementTree.fromstring(funnel_chart("t", FUNNELS[:1])).iter()]
    assert "gym" not in texts
    assert "nothing recorded" in funnel_chart("t", [])
    assert "0 from 0 tasks" in funnel_chart("t", FUNNELS[2:3])


def test_a_chart_of_its_own_brings_namespace_and_style() -> None:
    root = ElementTree.fromstring(standalone_svg(funnel_chart("t", FUNNELS)))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "font" in (root[0].text or "")
    with pytest.raises(ValueError, match="nothing to draw"):
        standalone_svg(funnel_chart("t", []))


def test_the_pictures_of_learning_are_named_as_the_page_shows_them(tmp_path: Path) -> None:
    page = Path(__file__).parents[2] / "docs" / "grpo.md"
    option, shown = (
        re.findall(pattern, page.read_text()) for pattern in (r"--svg docs/images/(\S+\.svg)", r"\(images/(\S+\.svg)\)")
    )
    curves = ("resolved_in_training", "resolved_lowest", "resolved_highest")
    figures = {arm: {curve: [0.25, 0.5] for curve in curves} for arm in ("sync", "stale2", "deepswe", "outcome")}
    write_pictures(tmp_path / option[0], figures, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(shown)
