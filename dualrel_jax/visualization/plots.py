"""Training curves as a PNG file."""

import math
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from dualrel_jax.constants import BEST_BY
from dualrel_jax.utils.jsonl import read_records
from dualrel_jax.visualization.canvas import LINES, new_figure, save


def training_curves(records: str | Path | Iterable[dict], path: str | Path) -> Path:
    """Draws losses in one panel, validation scores in another, and every other logged number in a small one of its own.

    Args:
        records: path of a `metrics.jsonl`, or its records: `{"step": 20, "train/loss": 0.7}`,
            `{"step": 250, "validation/jac_pooled": 0.6}`. Where a continued run logged a step twice, the last value
            counts.
        path: the PNG to write.
    """
    series = _series(read_records(Path(records)) if isinstance(records, str | Path) else records)
    series = {name: points for name, points in series.items() if not name.startswith("validation/slices")}
    losses = {name: points for name, points in series.items() if "loss" in name}
    scores = {
        name: points
        for name, points in series.items()
        if name.startswith("validation/") and name not in losses and 0 <= min(points[1]) <= max(points[1]) <= 1
    }
    wide = {title: group for title, group in (("Losses", losses), ("Validation scores", scores)) if group}
    small = [name for name in series if name not in losses and name not in scores]
    rows = math.ceil(len(small) / 4)
    heights = [420] * bool(wide) + [220 * rows] * bool(small)
    figure = new_figure(1250, sum(heights) or 220)
    if not series:
        figure.text(0.5, 0.5, "No records yet", ha="center", va="center")
        return save(figure, path)
    figure.set_layout_engine("constrained")
    # Each part has its own columns: the legends beside the wide panels take no room from the small ones.
    parts = list(figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0])
    if wide:
        for axes, (title, group) in zip(parts[0].subplots(1, len(wide), squeeze=False)[0], wide.items(), strict=True):
            _plot_group(axes, title, group, is_loss=group is losses)
            _style(axes)
    if small:
        panels = parts[-1].subplots(rows, 4, squeeze=False).ravel()
        for axes, name in zip(panels, small, strict=False):
            _plot_curve(axes, series[name], color=LINES[0])
            axes.set_title(_readable(name), fontsize=9, loc="left")
            _style(axes)
        for axes in panels[len(small) :]:
            axes.set_axis_off()
    return save(figure, path)


def _style(axes) -> None:
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _series(records) -> dict[str, tuple[list, list]]:
    """Name -> (steps, values), sorted by step, of every finite number."""
    values: dict[str, dict] = {}
    for record in records:
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                values.setdefault(name, {})[record["step"]] = value
    return {name: tuple(zip(*sorted(points.items()), strict=True)) for name, points in values.items()}


def _readable(name: str) -> str:
    """`validation/jac_per_slice_mean` -> `JAC, mean of slices`; `train/loss_diversity` -> `loss, diversity`."""
    text = name.partition("/")[2] or name
    for part, readable in (("jac", "JAC"), ("dsc", "DSC"), ("_per_slice_mean", ", mean of slices"), ("_pooled", "")):
        text = text.replace(part, readable)
    return re.sub("^loss_", "loss, ", text).replace("_", " ")


def _plot_group(axes, title, group, is_loss) -> None:
    """Several curves in one panel. Losses that are never negative and span a factor of 10 get a logarithmic axis."""
    best_by = next((f"validation/{score}" for score in BEST_BY if f"validation/{score}" in group), None)
    for i, (name, points) in enumerate(group.items()):
        style = {"color": LINES[i % len(LINES)], "linestyle": ("-", "--", ":")[i // len(LINES) % 3]}
        text = _readable(name)
        if name == best_by:
            step, best = max(zip(*points, strict=True), key=lambda point: point[1])
            text += f" (best {best:.3f} at step {step})"
            axes.plot(step, best, "*", markersize=11, color=style["color"])
        _plot_curve(axes, points, label=text, **style)
    values = np.concatenate([values for _, values in group.values()])
    positive = values[values > 0]
    if is_loss and values.min() >= 0 and positive.size and positive.max() > 10 * positive.min():
        axes.set_yscale("log", nonpositive="mask")
        axes.set_ylabel("loss (log scale)", fontsize=9)
    elif is_loss:
        axes.set_ylabel("loss", fontsize=9)
    else:
        axes.set_ylim(0, 1.01)
        axes.set_ylabel("score, 0 to 1", fontsize=9)
    axes.set_title(title, loc="left", fontsize=11)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1, 1), borderaxespad=0)


def _plot_curve(axes, points, **style) -> None:
    """A line, with dots while they are few; a long noisy one is drawn faintly behind its running mean."""
    steps, values = (np.asarray(column, float) for column in points)
    if len(steps) > 200:
        axes.plot(steps, values, **{**style, "label": None}, alpha=0.25, linewidth=0.7)
        window = np.full(len(steps) // 50, 1 / (len(steps) // 50))
        steps, values = np.convolve(steps, window, "valid"), np.convolve(values, window, "valid")
    axes.plot(steps, values, **style, linewidth=1.4, marker="o" if len(steps) <= 25 else None, markersize=3)
