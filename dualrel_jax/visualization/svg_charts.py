"""Small charts of the report as SVG text without colours: the classes axis, line, level, mark and rest of
report.html.j2 give them, so that charts follow the light or dark mode of the page."""

import io
import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup

from dualrel_jax.utils.ranges import consecutive_runs

WIDTH, HEIGHT = 420, 210
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 10, 38  # margins around the curve
STRIP_HEIGHT = 72
MAX_POINTS = 300  # a longer curve is drawn as means of neighbouring points
MAX_DOTS = 40  # a shorter curve shows its points
_CLASSES = {"axis", "line", "level", "mark", "rest"}
_SVG, _XLINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"


def line_chart(
    x: Sequence[float],
    y: Sequence[float],
    name: str,
    *,
    x_label: str = "step",
    limits: tuple[float, float] | None = None,
    level: float | None = None,
) -> Markup:
    """An SVG curve through at least one point.

    Args:
        name: what y is, for the text that a screen reader reads.
        limits: range of the y axis; None: that of y.
        level: height of a dashed horizontal line, such as a mean.
    """
    points = min(len(x), MAX_POINTS)
    x, y = (np.array([part.mean() for part in np.array_split(np.asarray(row, float), points)]) for row in (x, y))
    figure, axes = _figure(HEIGHT, BOTTOM)
    y_ticks = _ticks(*(limits or (y.min(), y.max())))
    axes.set_ylim(y_ticks[0], y_ticks[-1])
    axes.set_yticks(y_ticks, [f"{tick:g}" for tick in y_ticks])
    axes.grid(axis="y", clip_on=False)
    for grid_line in axes.get_ygridlines():
        grid_line.set_gid("axis")
    if level is not None:
        axes.plot([0, 1], [level, level], transform=axes.get_yaxis_transform(), clip_on=False, gid="level")
    axes.plot(x, y, clip_on=False, gid="line")
    if points <= MAX_DOTS:
        axes.plot(x, y, "o", markersize=5, clip_on=False, gid="mark")
    _set_x_axis(axes, (x.min(), x.max()), x_label)
    description = f"{name}: {y[0]:.3g} at {x_label} {x[0]:g}, {y[-1]:.3g} at {x[-1]:g}, "
    return _svg(figure, f"{description}from {y.min():.3g} to {y.max():.3g}.")


def strip_chart(marked: Iterable[int], rest: Iterable[int], name: str) -> Markup:
    """Whole numbers on one SVG axis: tall bars for the marked ones, a low band for the rest."""
    from matplotlib.patches import Rectangle

    bars = {"rest": (consecutive_runs(rest), 8, 14), "mark": (consecutive_runs(marked), 4, 24)}
    ends = [end for runs, *_ in bars.values() for run in runs for end in run]
    low, high = min(ends), max(ends)
    figure, axes = _figure(STRIP_HEIGHT, STRIP_HEIGHT - 34)
    axes.set_ylim(0, STRIP_HEIGHT - TOP - (STRIP_HEIGHT - 34))  # pixels
    axes.set_yticks([])
    _set_x_axis(axes, (low - 0.5, high + 0.5), "z")
    narrowest = 2 * (high - low + 1) / (WIDTH - LEFT - RIGHT)  # 2 pixels: one slice of a thousand is still seen
    for style, (runs, bottom, height) in bars.items():
        for first, last in runs:
            bar = Rectangle((first - 0.5, bottom - 4), max(last - first + 1, narrowest), height, gid=style)
            axes.add_patch(bar).set_clip_on(False)
    return _svg(figure, name)


def _figure(height: float, bottom: float):
    """(figure, axes): one unit of the SVG is one pixel; margins as above, of `bottom` pixels below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
    size = (WIDTH - LEFT - RIGHT) / WIDTH, (height - TOP - bottom) / height
    axes = figure.add_axes((LEFT / WIDTH, bottom / height, *size))
    for invisible in (figure.patch, axes.patch, *axes.spines.values()):
        invisible.set_visible(False)
    axes.tick_params(length=0, pad=7, labelsize=12)
    return figure, axes


def _set_x_axis(axes, limits: tuple[float, float], label: str) -> None:
    low, high = limits
    ticks = [tick for tick in _ticks(low, high, integer=True) if low <= tick <= high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlim((low, high) if high > low else (low - 1, high + 1))
    axes.set_xlabel(label, fontsize=12, labelpad=2)


def _ticks(low: float, high: float, integer: bool = False) -> np.ndarray:
    """Round numbers around low..high."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4, integer=integer, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)


def _svg(figure, description: str) -> Markup:
    """The figure as an <svg> element without style attributes, with `description` for screen readers."""
    from matplotlib import rc_context

    text = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": description}):
        figure.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    root = ElementTree.fromstring(text.getvalue())
    root.remove(root.find(f"{{{_SVG}}}defs"))  # a style sheet, which would hold for the whole page
    for element in root.iter():
        identifier, style = element.attrib.pop("id", ""), element.attrib.pop("style", "")
        if identifier in _CLASSES:
            element.set("class", identifier)
        elif element.tag == f"{{{_SVG}}}path" and identifier:
            element.set("id", identifier)  # the shape of dots, a hash of it and of the description
        if anchor := re.search(r"text-anchor: (\w+)", style):
            element.set("text-anchor", anchor[1])
        if element.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]
        if shape := element.attrib.pop(_XLINK, ""):
            element.set("href", shape)
    root.attrib = {"viewBox": root.get("viewBox"), "role": "img", "aria-label": description}
    ElementTree.register_namespace("", _SVG)
    return Markup(re.sub(r"\s*\n\s*", " ", ElementTree.tostring(root, encoding="unicode")))
