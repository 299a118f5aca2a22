"""Pictures of a run and its results, as PNG files.

Matplotlib is imported inside the functions: it costs most of a second, which `--help` should not pay. Figures are made
without pyplot, so that no display is needed and no figure stays open. Colours are Okabe and Ito's, which colour-blind
people tell apart.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dualrel_jax.constants import IGNORE
from dualrel_jax.utils.jsonl import read_records

PREDICTED, TRUE = "#E69F00", "#56B4E9"
FOREGROUND, BACKGROUND = "#E69F00", "#0072B2"
LINES = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

# Layout in pixels of the PNG.
DPI = 110
GAP = 14  # around panels
CAPTION = 24  # height of a line of text
LEGEND = 260  # width of the explanations beside activation maps


def mask_outlines(
    image: np.ndarray,
    mask: np.ndarray | None,
    label: np.ndarray | None,
    path: str | Path,
    title: str = "",
    pixel_nm: float | tuple[float, float] | None = None,
) -> Path:
    """Draws the outlines of the predicted and the true mitochondria over one slice.

    Args:
        image: `y x` uint8.
        mask: `y x` bool, predicted; None where nothing is.
        label: `y x` uint8, 0, 1 or 255 (veiled, "not scored"); None where there is no label.
        path: the PNG to write.
        title: a line above the picture.
        pixel_nm: pixel size in nm, one number or (y, x), for a scale bar; None: no bar.
    """
    return mask_sheet([(image, mask, label, title)], path, pixel_nm)


def mask_sheet(panels: Sequence[tuple], path: str | Path, pixel_nm: float | tuple[float, float] | None = None) -> Path:
    """Draws several slices, each `(image, mask, label, title)` as in `mask_outlines`, on one sheet."""
    if not panels:
        raise ValueError("expected at least one slice to draw")
    columns = min(4, math.ceil(math.sqrt(len(panels))))
    rows = math.ceil(len(panels) / columns)
    box = {1: (1150, 850), 2: (720, 540), 3: (500, 420), 4: (400, 330)}[columns]
    sizes = [fit(image.shape, box) for image, *_ in panels]
    cell_width, cell_height = (max(size) for size in zip(*sizes, strict=True))
    width = max(columns * (cell_width + GAP) + GAP, 640)
    left = (width - columns * (cell_width + GAP) + GAP) / 2
    figure = new_figure(width, rows * (cell_height + CAPTION + GAP) + CAPTION + 2 * GAP)
    for i, ((image, mask, label, title), size) in enumerate(zip(panels, sizes, strict=True)):
        corner = left + i % columns * (cell_width + GAP), GAP + i // columns * (cell_height + CAPTION + GAP) + CAPTION
        axes = panel(figure, corner, size, title)
        grey(axes, image)
        _outline(axes, mask, label)
        if pixel_nm is not None:
            scale_bar(axes, image.shape, float(np.ravel(pixel_nm)[-1]))
    labels = [label for _, _, label, _ in panels if label is not None]
    predicted = any(mask is not None for _, mask, _, _ in panels)
    _mask_legend(figure, predicted, bool(labels), any((label == IGNORE).any() for label in labels))
    return save(figure, path)


def activation_maps(
    image: np.ndarray,
    maps: np.ndarray,
    is_foreground: np.ndarray,
    reliability: np.ndarray | None,
    path: str | Path,
    grouped: bool = True,
) -> Path:
    """Draws what each prototype looks at, as heat over the slice; the heat of each map spans its own range.

    Foreground and background prototypes are told apart by the colour of their frames, and run from the most to the
    least reliable: each group by itself, or all of them together.

    Args:
        image: `y x` uint8.
        maps: `k y x` float, an activation map a prototype; may be coarser than the image.
        is_foreground: `k` bool.
        reliability: `k` float, weight of each prototype for this image; None: not known, order of the prototypes.
        path: the PNG (or PDF) to write.
        grouped: the foreground group first, then the background group.
    """
    is_foreground = np.asarray(is_foreground, bool)
    order = np.arange(len(maps)) if reliability is None else np.argsort(-np.asarray(reliability), kind="stable")
    groups = (order[is_foreground[order]], order[~is_foreground[order]]) if grouped else (order,)
    groups = [group for group in groups if len(group)]
    columns = min(max(4, math.ceil(math.sqrt(len(maps)))), max(map(len, groups)))
    size = fit(image.shape, (min(300, 1300 // columns),) * 2)
    width, height = size[0] + GAP, size[1] + CAPTION + GAP
    rows = sum(math.ceil(len(group) / columns) for group in groups)
    left = max(size[0], LEGEND) + 3 * GAP
    figure = new_figure(left + columns * width, max(rows * height + GAP, height + 150))
    grey(panel(figure, (GAP, GAP + CAPTION), size, "slice"), image)
    _heat_legend(figure, (GAP, height + GAP), is_foreground)
    row = 0
    for group in groups:
        for i, k in enumerate(group):
            corner = left + i % columns * width, GAP + CAPTION + (row + i // columns) * height
            title = f"#{k}" if reliability is None else f"#{k}   reliability {reliability[k]:.2f}"
            axes = panel(figure, corner, size, title, FOREGROUND if is_foreground[k] else BACKGROUND)
            grey(axes, image)
            axes.imshow(heat(maps[k]), extent=axes.get_images()[0].get_extent(), interpolation="bilinear")
        row += math.ceil(len(group) / columns)
    return save(figure, path)


def curves(records: str | Path | Iterable[dict], path: str | Path) -> Path:
    """Draws training curves: losses, validation scores, and every other scalar in a small panel of its own.

    Args:
        records: path of a `metrics.jsonl`, or its records: `{"step": 20, "train/loss": 0.7}`,
            `{"step": 250, "validation/jac_pooled": 0.6}`. Of a step logged twice, by a run that was continued, the last
            value stands.
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
    # Twelve columns: two wide panels of six, or four small ones of three.
    mosaic = [[title for title in wide for _ in range(12 // len(wide))]] if wide else []
    for i in range(0, len(small), 4):
        names = small[i : i + 4]
        mosaic.append([name for name in [*names, *["."] * (4 - len(names))] for _ in range(3)])
    heights = [420 if i == 0 and wide else 220 for i in range(len(mosaic))]
    figure = new_figure(1250, sum(heights) or 220)
    if not series:
        figure.text(0.5, 0.5, "Nothing logged yet", ha="center", va="center")
        return save(figure, path)
    figure.set_layout_engine("constrained")
    for name, axes in figure.subplot_mosaic(mosaic, height_ratios=heights).items():
        if name in wide:
            _group(axes, name, wide[name], is_loss=wide[name] is losses)
        else:
            _curve(axes, series[name], color=LINES[0])
            axes.set_title(_readable(name), fontsize=9, loc="left")
        axes.set_xlabel("step", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return save(figure, path)


def new_figure(width: float, height: float):
    """A white figure of so many pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white")


def save(figure, path: str | Path) -> Path:
    """Writes a figure as its path ends, .png or .pdf, into a folder that is made if need be."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def fit(shape_yx: tuple[int, int], box: tuple[float, float]) -> tuple[int, int]:
    """Width and height, at least 1, of a slice of this shape at the largest zoom that fits `box`."""
    zoom = min(box[0] / shape_yx[1], box[1] / shape_yx[0])
    return max(round(shape_yx[1] * zoom), 1), max(round(shape_yx[0] * zoom), 1)


def panel(figure, corner, size, title, frame=None):
    """Axes without ticks, `size` = (width, height) pixels, `corner` = (x, y) pixels from the figure's top left."""
    width, height = figure.get_size_inches() * DPI
    bounds = corner[0] / width, 1 - (corner[1] + size[1]) / height, size[0] / width, size[1] / height
    axes = figure.add_axes(bounds, xticks=[], yticks=[])
    axes.set_title(title, fontsize=9, loc="left", pad=4, parse_math=False)
    axes.spines[:].set(visible=frame is not None, color=frame, linewidth=3)
    return axes


def grey(axes, image: np.ndarray) -> None:
    """A slice, `y x` uint8, filling its axes."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, aspect="auto")
    axes.set_autoscale_on(False)  # what is drawn over a slice leaves its limits alone


def _outline(axes, mask, label) -> None:
    """Truth as a broad line under the thin one of the prediction: where both agree, both are seen."""
    from matplotlib.collections import LineCollection

    if label is not None:
        veil = np.zeros((*label.shape, 4), np.float32)
        veil[label == IGNORE] = 1, 1, 1, 0.45
        axes.imshow(veil, aspect="auto", interpolation="nearest")
        axes.add_collection(LineCollection(borders(label == 1), colors=TRUE, linewidths=3.4))
    if mask is not None:
        axes.add_collection(LineCollection(borders(mask), colors=PREDICTED, linewidths=1.5))


def borders(mask: np.ndarray) -> list[np.ndarray]:
    """Lines of `n (x, y)` pixels around the components of `mask`, half way between inside and outside pixels."""
    from contourpy import contour_generator

    # One more pixel around, so that lines reach the border of the slice and a slice may be one pixel thin.
    padded = np.pad(np.asarray(mask, np.float32), 1, mode="edge")
    return [line - 1 for line in contour_generator(z=padded).lines(0.5)]


def scale_bar(axes, shape_yx: tuple[int, int], pixel_nm: float) -> None:
    """A bar of 1, 2 or 5 x 10^n nm, the longest below a quarter of the slice's width."""
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


def _mask_legend(figure, has_mask: bool, has_label: bool, has_ignored: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = []
    if has_mask:
        handles.append(Line2D([], [], color=PREDICTED, linewidth=2, label="predicted"))
    if has_label:
        handles.append(Line2D([], [], color=TRUE, linewidth=3.5, label="true"))
    if has_ignored:
        handles.append(Patch(facecolor="0.85", edgecolor="0.5", label="not scored"))
    bottom = GAP / 2 / (figure.get_figheight() * DPI)
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, bottom), ncols=3, frameon=False, fontsize=9)


def heat(activation: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """`y x` -> `y x rgba`: the more active, the brighter and the less transparent; limits: what is dark and bright."""
    from matplotlib import colormaps

    activation = np.asarray(activation, np.float32)
    # A softmax map has a few very high pixels.
    low, high = np.percentile(activation, (1, 99.8)) if limits is None else limits
    level = np.clip((activation - low) / (high - low), 0, 1) if high > low else np.zeros_like(activation)
    colored = colormaps["inferno"](level)
    colored[..., 3] = 0.7 * level
    return colored


def _heat_legend(figure, corner, is_foreground) -> None:
    """The meaning of frames and heat, in the 150 pixels below `corner`."""
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    total_width, total_height = figure.get_size_inches() * DPI
    frames = [(FOREGROUND, "foreground prototypes"), (BACKGROUND, "background prototypes")]
    present = [is_foreground.any(), not is_foreground.all()]
    handles = [
        Patch(facecolor="none", edgecolor=color, linewidth=2.5, label=text)
        for (color, text), shown in zip(frames, present, strict=True)
        if shown
    ]
    anchor = corner[0] / total_width, 1 - corner[1] / total_height
    figure.legend(handles=handles, loc="upper left", bbox_to_anchor=anchor, frameon=False, fontsize=9, borderaxespad=0)
    axes = panel(figure, (corner[0], corner[1] + 85), (LEGEND, 14), "activation (each map its own range)")
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=colormaps["inferno"], aspect="auto")


def _series(records) -> dict[str, tuple[list, list]]:
    """Name -> (steps, values), sorted by step, of every finite number."""
    values: dict[str, dict] = {}
    for record in records:
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                values.setdefault(name, {})[record["step"]] = value
    return {name: tuple(zip(*sorted(points.items()), strict=True)) for name, points in values.items()}


def _readable(name: str) -> str:
    words = name.partition("/")[2] or name
    return words.replace("_", " ").replace("jac", "JAC").replace("dsc", "DSC")


def _group(axes, title, group, is_loss) -> None:
    """Several curves in one panel. Losses that are never negative and span a decade get a logarithmic axis."""
    for i, (name, points) in enumerate(group.items()):
        style = {"color": LINES[i % len(LINES)], "linestyle": ("-", "--", ":")[i // len(LINES) % 3]}
        text = _readable(name)
        if name == "validation/jac_pooled":
            step, best = max(zip(*points, strict=True), key=lambda point: point[1])
            text += f" (best {best:.3f} at step {step})"
            axes.plot(step, best, "*", markersize=11, color=style["color"])
        _curve(axes, points, label=text, **style)
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
    axes.legend(fontsize=8, framealpha=0.8)


def _curve(axes, points, **style) -> None:
    """A line, with dots while they are few; a long noisy one is drawn faintly behind its running mean."""
    steps, values = (np.asarray(column, float) for column in points)
    if len(steps) > 200:
        axes.plot(steps, values, **{**style, "label": None}, alpha=0.25, linewidth=0.7)
        window = np.full(len(steps) // 50, 1 / (len(steps) // 50))
        steps, values = np.convolve(steps, window, "valid"), np.convolve(values, window, "valid")
    axes.plot(steps, values, **style, linewidth=1.4, marker="o" if len(steps) <= 25 else None, markersize=3)
