"""Pieces that every picture is made of: figures and panels laid out in pixels, slices, heat, contours, scale bars.

Matplotlib is imported inside the functions: it costs most of a second, which `--help` should not pay. Figures are made
without pyplot, so that no display is needed and no figure stays open. Colours are those of Okabe and Ito, which people
with colour vision deficiency can tell apart.
"""

import math
from pathlib import Path

import numpy as np

from dualrel_jax.utils.atomic import replacing

PREDICTED, TRUE = "#E69F00", "#56B4E9"
FOREGROUND, BACKGROUND = "#E69F00", "#0072B2"
LINES = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

# Layout in pixels of the PNG.
DPI = 110
GAP = 14  # around panels
CAPTION = 24  # height of a line of text


def new_figure(width: float, height: float):
    """A white figure of `width` x `height` pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")


def save(figure, path: str | Path) -> Path:
    """Writes a figure as .png or .pdf, by the suffix of `path`; makes the folder if it is absent."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:])
    return path


def fit(shape_yx: tuple[int, int], box: tuple[float, float]) -> tuple[int, int]:
    """Width and height, at least 1, of a slice `shape_yx` at the largest zoom that fits `box` (width, height)."""
    zoom = min(box[0] / shape_yx[1], box[1] / shape_yx[0])
    return max(round(shape_yx[1] * zoom), 1), max(round(shape_yx[0] * zoom), 1)


def bounds(figure, corner: tuple[float, float], size: tuple[float, float]) -> tuple[float, float, float, float]:
    """Matplotlib's bounds for axes of `size` (width, height) with the `corner` (x, y) from the top left, in pixels."""
    width, height = figure.get_size_inches() * DPI
    return corner[0] / width, 1 - (corner[1] + size[1]) / height, size[0] / width, size[1] / height


def panel(figure, corner: tuple[float, float], size: tuple[float, float], title: str, frame: str | None = None):
    """Axes without ticks at `corner` (see `bounds`); frame: colour of a frame, None: no frame."""
    axes = figure.add_axes(bounds(figure, corner, size), xticks=[], yticks=[])
    axes.set_title(title, fontsize=9, loc="left", pad=4, parse_math=False)
    axes.spines[:].set(visible=frame is not None, color=frame, linewidth=3)
    return axes


def grey(axes, image: np.ndarray) -> None:
    """A slice, `y x` uint8, filling its axes."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, aspect="auto")
    axes.set_autoscale_on(False)  # drawing over a slice leaves its limits as they are


def overlay(axes, rgba: np.ndarray, interpolation: str = "bilinear") -> None:
    """Colours `y x rgba`, at any resolution, over the slice that `grey` drew."""
    axes.imshow(rgba, extent=axes.get_images()[0].get_extent(), interpolation=interpolation, aspect="auto")


def heat(activation: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """`y x` -> `y x rgba`: higher values are brighter and less transparent; limits: values drawn dark and bright."""
    from matplotlib import colormaps

    activation = np.asarray(activation, np.float32)
    # A softmax map has a few very high pixels.
    low, high = np.percentile(activation, (1, 99.8)) if limits is None else limits
    level = np.clip((activation - low) / (high - low), 0, 1) if high > low else np.zeros_like(activation)
    colored = colormaps["inferno"](level)
    colored[..., 3] = 0.7 * level
    return colored


def borders(mask: np.ndarray) -> list[np.ndarray]:
    """Lines `n (x, y)` in pixels around the components of `mask`, half way between inside and outside pixels."""
    from contourpy import contour_generator

    # One more pixel around, so that lines reach the border of the slice and a slice may be one pixel thin.
    padded = np.pad(np.asarray(mask, np.float32), 1, mode="edge")
    return [line - 1 for line in contour_generator(z=padded).lines(0.5)]


def scale_bar(axes, shape_yx: tuple[int, int], pixel_nm: float) -> tuple[float, float]:
    """A bar of 1, 2 or 5 x 10^n nm, the longest below a quarter of the slice's width; -> its corner (x, y)."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    y_size, x_size = shape_yx
    longest_nm = x_size * pixel_nm / 4
    decade_nm = 10.0 ** math.floor(math.log10(longest_nm))
    # 0.5: just below a power of ten the logarithm rounds up to it.
    length_nm = max(factor * decade_nm for factor in (0.5, 1, 2, 5) if factor * decade_nm <= longest_nm)
    zoom = axes.get_window_extent().width / x_size
    length, thickness, margin = length_nm / pixel_nm, GAP / 2 / zoom, GAP / zoom
    left, top = x_size - margin - length, y_size - margin - thickness
    axes.add_patch(Rectangle((left, top), length, thickness, facecolor="white", edgecolor="black", linewidth=0.8))
    text = f"{length_nm / 1000:g} µm" if length_nm >= 1000 else f"{length_nm:g} nm"
    outline = [withStroke(linewidth=2.5, foreground="black")]
    at = left + length / 2, top - thickness / 2
    axes.text(*at, text, color="white", fontsize=9, ha="center", va="bottom", path_effects=outline)
    return left - margin, top - 2 * CAPTION / zoom
