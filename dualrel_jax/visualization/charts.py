"""Small charts as SVG text: for a page that needs no script, follows its reader's colours and is sharp on paper.

Colours and line widths are those of the classes `axis`, `line`, `level`, `mark` and `rest` in report.html.
"""

from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby

import numpy as np

WIDTH, HEIGHT = 420, 210
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 10, 38  # margins around the curve
MAX_POINTS = 300  # a longer curve is drawn by means of neighbouring points
MAX_DOTS = 40  # a shorter curve shows its points


def line(
    x: Sequence[float],
    y: Sequence[float],
    name: str,
    x_label: str = "step",
    limits: tuple[float, float] | None = None,
    level: float | None = None,
) -> str:
    """A curve of at least one point; `limits` of the y axis, and the height of a dashed `level`, such as a mean."""
    points = min(len(x), MAX_POINTS)
    x, y = (np.array([part.mean() for part in np.array_split(np.asarray(row, float), points)]) for row in (x, y))
    y_ticks = _ticks(*(limits or (y.min(), y.max())))
    across = _scale(x.min(), x.max(), LEFT, WIDTH - RIGHT)
    up = _scale(y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP)
    parts = []
    for tick in y_ticks:
        parts.append(f'<path class="axis" d="M{LEFT} {up(tick):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    parts += _x_axis(x.min(), x.max(), across, HEIGHT - BOTTOM, x_label)
    if level is not None:
        parts.append(f'<path class="level" d="M{LEFT} {up(level):.1f}H{WIDTH - RIGHT}"/>')
    corners = [f"{across(a):.1f} {up(b):.1f}" for a, b in zip(x, y, strict=True)]
    parts.append(f'<path class="line" d="M{"L".join(corners)}"/>')
    if points <= MAX_DOTS:
        parts += [f'<circle class="mark" cx="{a}" cy="{b}" r="2.5"/>' for a, b in map(str.split, corners)]
    told = f"{name}: {y[0]:.3g} at {x_label} {x[0]:g}, {y[-1]:.3g} at {x[-1]:g}, from {y.min():.3g} to {y.max():.3g}."
    return _svg(HEIGHT, told, parts)


def strip(marked: Iterable[int], rest: Iterable[int], name: str) -> str:
    """Whole numbers on one axis: the marked ones tall, the rest a low band."""
    marked, rest = runs(marked), runs(rest)
    ends = [end for run in marked + rest for end in run]
    across = _scale(min(ends) - 0.5, max(ends) + 0.5, LEFT, WIDTH - RIGHT)

    def bars(found, style, top, height):
        for first, last in found:
            left, right = across(first - 0.5), across(last + 0.5)
            width = max(right - left, 2)  # one slice of a thousand is still seen
            yield f'<rect class="{style}" x="{left:.1f}" y="{top}" width="{width:.1f}" height="{height}"/>'

    parts = [*bars(rest, "rest", 16, 14), *bars(marked, "mark", 6, 24)]
    return _svg(72, name, parts + _x_axis(min(ends), max(ends), across, 34, "z"))


def runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """First and last of each stretch of neighbours: {1, 2, 3, 7} -> [(1, 3), (7, 7)]."""
    stretches = (list(group) for _, group in groupby(enumerate(sorted(set(numbers))), lambda pair: pair[1] - pair[0]))
    return [(stretch[0][1], stretch[-1][1]) for stretch in stretches]


def _x_axis(low, high, across, bottom, label) -> list[str]:
    ticks = [tick for tick in _ticks(low, high, integer=True) if low <= tick <= high]
    texts = [f'<text x="{across(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>' for tick in ticks]
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [*texts, f'<text x="{middle}" y="{bottom + 33}" text-anchor="middle">{escape(label)}</text>']


def _ticks(low, high, integer=False) -> np.ndarray:
    """Round numbers around low..high."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=4, integer=integer, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)


def _scale(low, high, start, end):
    """Values low..high -> start..end of the drawing; a single value lies in the middle."""
    if high == low:
        return lambda value: (start + end) / 2
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _svg(height: int, told: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(told)}" '
        f'xmlns="http://www.w3.org/2000/svg">{"".join(parts)}</svg>'
    )
