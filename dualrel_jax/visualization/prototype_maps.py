"""Activation of each prototype over one slice, as a PNG or PDF file."""

import math
from pathlib import Path

import numpy as np

from dualrel_jax.visualization import canvas
from dualrel_jax.visualization.canvas import BACKGROUND, CAPTION, FOREGROUND, GAP

LEGEND = 260  # width of the explanations beside the maps, in pixels


def activation_maps(
    image: np.ndarray,
    maps: np.ndarray,
    is_foreground: np.ndarray,
    reliability: np.ndarray | None,
    path: str | Path,
    *,
    grouped: bool = True,
) -> Path:
    """Draws the activation of each prototype as heat over the slice; the heat of each map spans its own range.

    Frames are coloured by class, foreground or background. Maps run from the most to the least reliable: each class by
    itself, or all of them together.

    Args:
        image: `y x` uint8.
        maps: `k y x` float, one activation map per prototype; may be coarser than the image.
        is_foreground: `k` bool.
        reliability: `k` float, weight of each prototype for this image; None: unknown, maps in their own order.
        path: the PNG (or PDF) to write.
        grouped: the foreground prototypes first, then the background ones.
    """
    is_foreground = np.asarray(is_foreground, bool)
    order = np.arange(len(maps)) if reliability is None else np.argsort(-np.asarray(reliability), kind="stable")
    groups = (order[is_foreground[order]], order[~is_foreground[order]]) if grouped else (order,)
    groups = [group for group in groups if len(group)]
    columns = min(max(4, math.ceil(math.sqrt(len(maps)))), max(map(len, groups)))
    size = canvas.fit(image.shape, (min(300, 1300 // columns),) * 2)
    width, height = size[0] + GAP, size[1] + CAPTION + GAP
    rows = sum(math.ceil(len(group) / columns) for group in groups)
    left = max(size[0], LEGEND) + 3 * GAP
    figure = canvas.new_figure(left + columns * width, max(rows * height + GAP, height + 150))
    canvas.grey(canvas.panel(figure, (GAP, GAP + CAPTION), size, "slice"), image)
    _heat_legend(figure, (GAP, height + GAP), is_foreground)
    row = 0
    for group in groups:
        for i, k in enumerate(group):
            corner = left + i % columns * width, GAP + CAPTION + (row + i // columns) * height
            title = f"#{k}" if reliability is None else f"#{k}   reliability {reliability[k]:.2f}"
            axes = canvas.panel(figure, corner, size, title, FOREGROUND if is_foreground[k] else BACKGROUND)
            canvas.grey(axes, image)
            canvas.overlay(axes, canvas.heat(maps[k]))
        row += math.ceil(len(group) / columns)
    return canvas.save(figure, path)


def _heat_legend(figure, corner: tuple[float, float], is_foreground: np.ndarray) -> None:
    """The meaning of frames and heat, in the 150 pixels below `corner`."""
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    frames = [(FOREGROUND, "foreground prototypes"), (BACKGROUND, "background prototypes")]
    present = [is_foreground.any(), not is_foreground.all()]
    handles = [
        Patch(facecolor="none", edgecolor=color, linewidth=2.5, label=text)
        for (color, text), shown in zip(frames, present, strict=True)
        if shown
    ]
    anchor = canvas.bounds(figure, corner, (0, 0))[:2]
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=anchor, frameon=False, fontsize=9, borderaxespad=0)
    axes = canvas.panel(figure, (corner[0], corner[1] + 85), (LEGEND, 14), "activation (each map its own range)")
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=colormaps["inferno"], aspect="auto")
