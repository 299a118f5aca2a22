"""Slices of EM under outlines of masks, under numbered instances, or under heat, as PNG files."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from dualrel_jax.constants import IGNORE
from dualrel_jax.visualization import canvas
from dualrel_jax.visualization.canvas import CAPTION, GAP, PREDICTED, TRUE

NUMBERED = 25  # instances per slice whose number is drawn: the largest


def mask_outlines(
    image: np.ndarray,
    mask: np.ndarray | None,
    label: np.ndarray | None,
    path: str | Path,
    *,
    pixel_nm: float | tuple[float, float] | None = None,
) -> Path:
    """Draws the outlines of the predicted and the true mitochondria over one slice.

    Args:
        image: `y x` uint8.
        mask: `y x` bool, predicted; None where nothing is predicted.
        label: `y x` uint8, 0, 1 or 255 (shown pale, "not scored"); None where there is no label.
        path: the PNG to write.
        pixel_nm: pixel size in nm, one number or (y, x), for a scale bar; None: no bar.
    """
    return mask_sheet([(image, mask, label, "")], path, pixel_nm)


def mask_sheet(
    panels: Sequence[tuple],
    path: str | Path,
    pixel_nm: float | tuple[float, float] | None = None,
    *,
    meaning: str = "predicted",
    label_meanings: tuple[str, str] = ("true", "not scored"),
    fill: bool = False,
) -> Path:
    """Draws several slices in one picture, each `(image, mask, label, title)`; the first three as in `mask_outlines`.

    Args:
        meaning: of the outlines of the masks, for the legend.
        label_meanings: of the outlines of the labels, and of what they leave out.
        fill: tints the labels inside, so that inverted ones are seen.
    """
    if not panels:
        raise ValueError("expected at least one slice to draw")
    columns = min(4, math.ceil(math.sqrt(len(panels))))
    rows = math.ceil(len(panels) / columns)
    box = {1: (1150, 850), 2: (720, 540), 3: (500, 420), 4: (400, 330)}[columns]
    sizes = [canvas.fit(image.shape, box) for image, *_ in panels]
    panel_width, panel_height = (max(size) for size in zip(*sizes, strict=True))
    width = max(columns * (panel_width + GAP) + GAP, 640)
    left = (width - columns * (panel_width + GAP) + GAP) / 2
    figure = canvas.new_figure(width, rows * (panel_height + CAPTION + GAP) + CAPTION + 2 * GAP)
    for i, ((image, mask, label, title), size) in enumerate(zip(panels, sizes, strict=True)):
        corner = left + i % columns * (panel_width + GAP), GAP + i // columns * (panel_height + CAPTION + GAP) + CAPTION
        axes = canvas.panel(figure, corner, size, title)
        canvas.grey(axes, image)
        _draw_outlines(axes, mask, label, fill)
        if pixel_nm is not None:
            canvas.scale_bar(axes, image.shape, float(np.ravel(pixel_nm)[-1]))
    _mask_legend(figure, panels, (meaning, *label_meanings))
    return canvas.save(figure, path)


def _draw_outlines(axes, mask: np.ndarray | None, label: np.ndarray | None, fill: bool) -> None:
    """Truth as a broad line under the thin one of the prediction: where both agree, both are seen."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    if label is not None:
        pale = np.zeros((*label.shape, 4), np.float32)
        pale[label == IGNORE] = 1, 1, 1, 0.45
        if fill:
            pale[label == 1] = to_rgba(TRUE, 0.3)
        canvas.overlay(axes, pale, "nearest")
        axes.add_collection(LineCollection(canvas.borders(label == 1), colors=TRUE, linewidths=3.4))
    if mask is not None:
        axes.add_collection(LineCollection(canvas.borders(mask), colors=PREDICTED, linewidths=1.5))


def _mask_legend(figure, panels: Sequence[tuple], meanings: Sequence[str]) -> None:
    """What the colours mean, below the panels; only the colours that are drawn."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    labels, handles = [label for _, _, label, _ in panels if label is not None], []
    if any(mask is not None for _, mask, _, _ in panels):
        handles.append(Line2D([], [], color=PREDICTED, linewidth=2, label=meanings[0]))
    if labels:
        handles.append(Line2D([], [], color=TRUE, linewidth=3.5, label=meanings[1]))
    if any((label == IGNORE).any() for label in labels):
        handles.append(Patch(facecolor="0.85", edgecolor="0.5", label=meanings[2]))
    bottom = GAP / 2 / (figure.get_figheight() * figure.dpi)
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, bottom), ncols=3, frameon=False, fontsize=9)


def instance_colours(n: int) -> np.ndarray:
    """`n + 1 rgb` in 0..1 for the labels 0..n, always the same ones; consecutive labels differ most in hue."""
    from matplotlib.colors import hsv_to_rgb

    i = np.arange(n + 1)
    # Multiples of the golden ratio spread evenly, however many are drawn.
    return hsv_to_rgb(np.stack([i * 0.618034 % 1, 1 - 0.2 * (i % 3), 1 - 0.15 * (i % 2)], axis=1))


def instance_sheet(
    panels: Sequence[tuple[np.ndarray, np.ndarray, str]], voxel_nm: tuple[float, float, float], path: Path
) -> Path:
    """Draws slices under their instances, each in its own colour, the largest with their numbers.

    Args:
        panels: (image `y x` uint8, labels `y x`, title) of each slice, all of one shape.
        voxel_nm: voxel size (z, y, x): gives pixels their aspect and the scale bar its length.
    """
    (y_size, x_size), n = panels[0][1].shape, max(int(labels.max()) for _, labels, _ in panels)
    size, rgb = canvas.fit((y_size * voxel_nm[1], x_size * voxel_nm[2]), (620, 520)), instance_colours(n)
    width, height = size[0] + GAP, size[1] + CAPTION + GAP
    figure = canvas.new_figure(min(len(panels), 2) * width + GAP, math.ceil(len(panels) / 2) * height + GAP)
    for i, (image, labels, title) in enumerate(panels):
        axes = canvas.panel(figure, (GAP + i % 2 * width, CAPTION + i // 2 * height), size, title)
        canvas.grey(axes, image)
        canvas.overlay(axes, np.concatenate([rgb[labels], 0.5 * (labels > 0)[..., None]], axis=-1), "nearest")
        _draw_numbers(axes, labels, canvas.scale_bar(axes, labels.shape, voxel_nm[2]))
    return canvas.save(figure, path)


def _draw_numbers(axes, labels: np.ndarray, bar: tuple[float, float]) -> None:
    """The number of each of the NUMBERED largest instances, on the pixel of it that is farthest from its edge.

    bar: corner (x, y) of the scale bar; a number beside its text would be read as part of that, and is left out.
    """
    from matplotlib.patheffects import withStroke

    outline = [withStroke(linewidth=1.5, foreground="black")]
    style = {"color": "white", "fontsize": 7, "ha": "center", "va": "center", "path_effects": outline}
    boxes = ndimage.find_objects(labels)
    for i in np.unique(labels[labels > 0])[:NUMBERED]:  # ascending ids are descending volumes
        box = boxes[i - 1]
        depth = ndimage.distance_transform_edt(np.pad(labels[box] == i, 1))[1:-1, 1:-1]
        y, x = (part.start + at for part, at in zip(box, np.unravel_index(depth.argmax(), depth.shape), strict=True))
        if x < bar[0] or y < bar[1]:
            axes.text(x, y, str(i), **style)


class HeatPanel(NamedTuple):
    """A slice, the heat over it, and the box to frame."""

    image: np.ndarray  # y x uint8
    values: np.ndarray  # Y X float, at any resolution
    title: str
    box: tuple[float, float, float, float] | None = None  # x and y of the first corner, width and height, in pixels


def heat_sheet(panels: Sequence[HeatPanel], text: str, path: Path) -> Path:
    """Draws slices under their values as heat, on one scale for all, with a colour bar that `text` explains."""
    from matplotlib.patches import Rectangle

    columns = min(3, len(panels))
    sizes = [canvas.fit(entry.image.shape, (430, 360)) for entry in panels]
    width, height = (max(size) + GAP for size in zip(*sizes, strict=True))
    height += CAPTION
    bottom = math.ceil(len(panels) / columns) * height + GAP
    figure = canvas.new_figure(max(columns * width + GAP, 560), bottom + 2 * CAPTION)
    top = max(float(np.percentile(entry.values, 99.8)) for entry in panels)
    for i, (entry, size) in enumerate(zip(panels, sizes, strict=True)):
        axes = canvas.panel(figure, (GAP + i % columns * width, CAPTION + i // columns * height), size, entry.title)
        canvas.grey(axes, entry.image)
        canvas.overlay(axes, canvas.heat(entry.values, (0, top)))
        if entry.box:
            x, y, *size = entry.box
            axes.add_patch(Rectangle((x - 0.5, y - 0.5), *size, fill=False, edgecolor=TRUE, linewidth=2))
    bar = canvas.panel(figure, (GAP, bottom + CAPTION), (320, 12), f"{text}, 0 to {top:.2g}")
    bar.imshow(np.linspace(0, 1, 256)[None], cmap="inferno", aspect="auto")
    return canvas.save(figure, path)
