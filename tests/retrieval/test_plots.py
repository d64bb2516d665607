"""Charts as SVG."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from retrieval.plots import Line, Scale, draw_bars, draw_histogram, draw_lines, find_ticks

SVG = "svg"
LABELS: dict[str, Any] = {"x_label": "ef", "y_label": "recall@10"}


def parse(figure: str) -> ET.Element:
    return ET.fromstring(figure)


def cells(figure: ET.Element) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in row] for row in figure.iter("tr")]


def test_a_line_goes_through_its_points_and_its_figures_stand_beside():
    figure = parse(draw_lines("Recall", "By ef.", [Line("graph", [(10, 0.5), (20, 1.0)])], **LABELS))
    [line] = figure.iter("polyline")
    # From the left edge at the bottom to the right edge at the top.
    assert line.get("points") == "56.0,214.0 466.0,30.0"
    assert cells(figure) == [["ef", "graph"], ["10", "0.5"], ["20", "1"]]


def test_what_lies_beyond_the_limits_is_drawn_on_the_edge_and_told_as_it_is():
    figure = parse(draw_lines("Lift", "By day.", [Line("high", [(1, 400.0), (2, 10.0)])], y_limits=(0, 20), **LABELS))
    [line] = figure.iter("polyline")
    assert line.get("points") == "56.0,30.0 466.0,214.0"
    assert cells(figure)[1:] == [["1", "400"], ["2", "10"]]


def test_a_chart_tells_screen_readers_what_it_shows():
    figure = parse(draw_bars("A <b>", "It's & that", [("int8", 0.5)], **LABELS))
    svg = figure.find(SVG)
    assert svg is not None
    assert svg.get("role") == "img"
    title, described = svg.find("title"), svg.find("desc")
    assert title is not None
    assert described is not None
    assert (title.text, described.text) == ("A <b>", "It's & that")
    assert svg.get("aria-labelledby") == f"{title.get('id')} {described.get('id')}"


def test_a_logarithmic_axis_spaces_factors_evenly():
    figure = parse(draw_lines("a", "b", [Line("c", [(8, 0), (64, 1), (512, 2)])], is_log_x=True, **LABELS))
    [line] = figure.iter("polyline")
    assert line.get("points") == "56.0,214.0 261.0,122.0 466.0,30.0"
    with pytest.raises(ValueError, match="x=0: a logarithmic axis"):
        draw_lines("a", "b", [Line("c", [(0, 1)])], is_log_x=True, **LABELS)


def test_lines_of_different_x_share_one_table_and_differ_without_colour():
    lines = [Line("a", [(1, 1), (2, 2)]), Line("b", [(2, 3), (3, math.nan)])]
    figure = parse(draw_lines("t", "d", lines, **LABELS))
    assert cells(figure) == [["ef", "a", "b"], ["1", "1", ""], ["2", "2", "3"]]
    dashes = [line.get("stroke-dasharray") for line in figure.iter("polyline")]
    assert len(set(dashes)) == 2


def test_long_names_are_short_in_the_legend_and_whole_in_the_table():
    figure = draw_lines("t", "d", [Line("a", [(1, 1)]), Line("queries of the catalogue", [(1, 2)])], **LABELS)
    assert "queries of th…</text>" in figure
    assert cells(parse(figure))[0][2] == "queries of the catalogue"


def test_bars_start_at_zero():
    figure = parse(draw_bars("t", "d", [("a", 1.0), ("b", 0.5), ("c", -1.0), ("d", math.nan)], **LABELS))
    assert [float(bar.get("height", 0)) for bar in figure.iter("rect")] == [92.0, 46.0, 92.0]
    assert cells(figure)[1:] == [["a", "1"], ["b", "0.5"], ["c", "-1"]]


def test_a_histogram_lists_what_is_not_empty():
    figure = parse(draw_histogram("t", "d", [0, 1, 2, 3], [4, 0, 1200], **LABELS))
    assert cells(figure)[1:] == [["0 to 1", "4"], ["2 to 3", "1,200"]]
    with pytest.raises(ValueError, match="2 edges for 2 counts: expected one edge more"):
        draw_histogram("t", "d", [0, 1], [1, 2], **LABELS)


@pytest.mark.parametrize("lines", [[], [Line("a", [])], [Line("a", [(1, math.inf)])]])
def test_nothing_to_show_says_so(lines):
    assert "no data" in draw_lines("t", "d", lines, **LABELS)
    assert "no data" in draw_bars("t", "d", [], **LABELS)


def test_a_single_point_and_equal_values_can_be_drawn():
    assert "polyline" in draw_lines("t", "d", [Line("a", [(5, 5)])], is_log_x=True, **LABELS)
    assert "rect" in draw_histogram("t", "d", [0, 1], [3.0], **LABELS)
    assert "no data" in draw_histogram("t", "d", [0, 1], [0.0], **LABELS)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.9, 1, [0.9, 0.92, 0.94, 0.96, 0.98, 1]),
        (0, 1300, [0, 500, 1000]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks_are_round(low, high, ticks):
    assert find_ticks(Scale(low, high, 0, 100)) == pytest.approx(ticks)
