"""Charts as SVG: where the points lie, that nothing is lost, and the text for those who cannot see them."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from dualrel_jax.visualization.svg_charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    MAX_POINTS,
    RIGHT,
    TOP,
    WIDTH,
    line_chart,
    strip_chart,
)


def elements(svg, style):
    """The elements of a class."""
    return [element for element in ElementTree.fromstring(svg).iter() if element.get("class") == style]


def corners(element):
    """(x, y) of every corner of its path."""
    (path,) = [part for part in element if part.tag.endswith("path")]
    return np.array(re.findall(r"[\d.-]+", path.get("d")), float).reshape(-1, 2)


def points(svg):
    (curve,) = elements(svg, "line")
    return corners(curve)


def dots(svg):
    return [dot for mark in elements(svg, "mark") for dot in mark.iter() if dot.tag.endswith("use")]


def test_line_spans_its_box():
    svg = line_chart([10, 20, 40], [0, 1, 0.5], "a", limits=(0, 1))
    x, y = (LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP)
    expected = [[x[0], y[0]], [x[0] + (x[1] - x[0]) / 3, y[1]], [x[1], (y[0] + y[1]) / 2]]
    np.testing.assert_allclose(points(svg), expected, atol=0.06)
    np.testing.assert_allclose([[float(dot.get("x")), float(dot.get("y"))] for dot in dots(svg)], expected, atol=0.06)


def test_a_dashed_level_lies_at_its_height():
    (level,) = elements(line_chart([0, 1], [0, 1], "a", limits=(0, 1), level=0.25), "level")
    height = HEIGHT - BOTTOM - 0.25 * (HEIGHT - BOTTOM - TOP)
    np.testing.assert_allclose(corners(level), [[LEFT, height], [WIDTH - RIGHT, height]], atol=0.06)


def test_curve_of_one_point_and_of_one_value():
    assert points(line_chart([20], [0.7], "a")).shape == (1, 2)
    heights = points(line_chart([1, 2, 3], [5, 5, 5], "a"))[:, 1]
    assert np.ptp(heights) == 0 and TOP <= heights[0] <= HEIGHT - BOTTOM


def test_long_curve_is_averaged():
    values = np.arange(10 * MAX_POINTS) % 10  # each mean is that of 0 to 9
    svg = line_chart(np.arange(len(values)), values, "a", limits=(0, 9))
    assert np.ptp(points(svg)[:, 1]) == 0 and not dots(svg)
    zigzag = np.repeat(np.arange(MAX_POINTS) % 2, 10)
    corners_drawn = len(points(line_chart(np.arange(len(values)), values + 9 * zigzag, "a")))
    assert corners_drawn == pytest.approx(MAX_POINTS, abs=1)  # matplotlib may repeat the last one


def test_charts_describe_themselves():
    (label,) = re.findall('aria-label="(.*?)"', line_chart([0, 100], [0.9, 0.25], "Loss <a>"))
    assert label == "Loss &lt;a&gt;: 0.9 at step 0, 0.25 at 100, from 0.25 to 0.9."


def test_charts_leave_colours_and_identifiers_to_their_page():
    charts = [line_chart([0, 1], [0, 1], name) for name in "ab"] + [strip_chart([3], range(9), "c")]
    assert not re.search("style|<defs />|clip|metadata", "".join(charts))
    identifiers = re.findall(r' id="(.*?)"', "".join(charts))
    assert len(identifiers) == len(set(identifiers)) == 2  # the dots of each curve
    assert set(re.findall(r' href="#(.*?)"', "".join(charts))) == set(identifiers)


def test_strip_covers_every_slice():
    svg = strip_chart([3], set(range(10)) - {3}, "one of ten")
    (marked,), rest = elements(svg, "mark"), elements(svg, "rest")
    width = (WIDTH - RIGHT - LEFT) / 10
    left = corners(marked)[:, 0].min()
    np.testing.assert_allclose([left, np.ptp(corners(marked)[:, 0])], [LEFT + 3 * width, width], atol=0.06)
    np.testing.assert_allclose([np.ptp(corners(r)[:, 0]) for r in rest], [3 * width, 6 * width], atol=0.06)
    assert np.ptp(corners(marked)[:, 1]) > np.ptp(corners(rest[0])[:, 1])
    (thin,) = elements(strip_chart([500], range(5000), "one of many"), "mark")
    assert np.ptp(corners(thin)[:, 0]) == pytest.approx(2, abs=0.01)
