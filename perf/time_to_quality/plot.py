"""JAC over CPU-minutes, a line per tool."""

from collections.abc import Mapping
from pathlib import Path

from dualrel_jax.utils.atomic import replacing
from dualrel_jax.visualization.canvas import LINES

MARKERS = "osD^vP*X"


def draw(record: Mapping, paths: list[Path]) -> None:
    """`record`: what time_to_quality.json holds; `paths`: one file per format, by their endings."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MultipleLocator

    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for i, tool in enumerate(record["tools"].values()):
        points = sorted((run["cpu_minutes"], 100 * run["jac"]) for run in tool["runs"].values())
        if points:
            style = {"color": LINES[i % len(LINES)], "marker": MARKERS[i % len(MARKERS)], "clip_on": False}
            axes.plot(*zip(*points, strict=True), **style, label=tool["title"], linewidth=1.4, markersize=5)
    axes.set(xlabel="CPU-minutes of training", ylabel="JAC, %", ylim=(0, 100))
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MultipleLocator(5))
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    for path in paths:
        with replacing(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=150)
