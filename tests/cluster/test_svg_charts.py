from xml.etree import ElementTree

import pytest

from cluster.svg_charts import Axis, Series, bar_chart, label_number, line_chart, ticks


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
