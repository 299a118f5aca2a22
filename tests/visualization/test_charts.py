"""Charts as SVG: where the points lie, that nothing is lost, and what is said to those who cannot see them."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dualrel_jax.visualization.charts import BOTTOM, HEIGHT, LEFT, MAX_POINTS, RIGHT, TOP, WIDTH, line, runs, strip


def elements(svg, style):
    """Attributes of the elements of a class."""
    return [element.attrib for element in ElementTree.fromstring(svg).iter() if element.get("class") == style]


def points(svg):
    (curve,) = elements(svg, "line")
    return np.array([list(map(float, pair.split())) for pair in re.split("[ML]", curve["d"])[1:]])


def test_line_spans_its_box():
    found = points(line([10, 20, 40], [0, 1, 0.5], "a", limits=(0, 1)))
    x, y = (LEFT, WIDTH - RIGHT), (HEIGHT - BOTTOM, TOP)
    expected = [[x[0], y[0]], [x[0] + (x[1] - x[0]) / 3, y[1]], [x[1], (y[0] + y[1]) / 2]]
    np.testing.assert_allclose(found, expected, atol=0.06)


def test_curve_of_one_point_and_of_one_value():
    assert points(line([20], [0.7], "a")).shape == (1, 2)
    heights = points(line([1, 2, 3], [5, 5, 5], "a"))[:, 1]
    assert np.ptp(heights) == 0 and TOP <= heights[0] <= HEIGHT - BOTTOM


def test_long_curve_is_averaged():
    values = np.arange(10 * MAX_POINTS) % 10  # each mean is that of 0 to 9
    svg = line(np.arange(len(values)), values, "a", limits=(0, 9))
    assert len(points(svg)) == MAX_POINTS and not elements(svg, "mark")
    assert np.ptp(points(svg)[:, 1]) == 0


def test_charts_say_what_they_show():
    (label,) = re.findall('aria-label="(.*?)"', line([0, 100], [0.9, 0.25], "Loss <a>"))
    assert label == "Loss &lt;a&gt;: 0.9 at step 0, 0.25 at 100, from 0.25 to 0.9."


def test_strip_covers_every_slice():
    svg = strip([3], set(range(10)) - {3}, "one of ten")
    (marked,), rest = elements(svg, "mark"), elements(svg, "rest")
    width = (WIDTH - RIGHT - LEFT) / 10
    np.testing.assert_allclose([float(marked["x"]), float(marked["width"])], [LEFT + 3 * width, width], atol=0.06)
    np.testing.assert_allclose([float(r["width"]) for r in rest], [3 * width, 6 * width], atol=0.06)
    (thin,) = elements(strip([500], range(5000), "one of many"), "mark")
    assert float(thin["width"]) == 2


@given(st.sets(st.integers(-20, 60)))
@settings(max_examples=50, deadline=None)
def test_runs_are_the_numbers(numbers):
    found = runs(numbers)
    assert {n for first, last in found for n in range(first, last + 1)} == numbers
    assert all(last + 1 < first for (_, last), (first, _) in zip(found, found[1:], strict=False))
