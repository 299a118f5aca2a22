"""Draws the paper's figures, each as PNG and PDF, from arrays and the numbers of `analysis`."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import special

from dualrel_jax.constants import IGNORE
from dualrel_jax.visualization.canvas import (
    BACKGROUND,
    CAPTION,
    DPI,
    FOREGROUND,
    GAP,
    LINES,
    TRUE,
    borders,
    bounds,
    fit,
    grey,
    heat,
    new_figure,
    overlay,
    panel,
    save,
    scale_bar,
)
from dualrel_jax.visualization.prototype_analysis import NEAR_PX, assignments, share_within
from dualrel_jax.visualization.prototype_maps import activation_maps

SUFFIXES = (".png", ".pdf")
STYLES = ("-", "--", "-.", ":")
# Yellow, vermillion and blue differ in lightness too; a true negative stays grey.
OUTCOMES = {"true positive": "#F0E442", "false positive": "#D55E00", "false negative": "#0072B2"}


def confusion(
    image: np.ndarray, label: np.ndarray, maps: Mapping[str, np.ndarray], numbers: Mapping, title: str, path: Path
) -> None:
    """Figure 1: confusion (Eq. 1) over EM for each run, its histogram, and its mean by distance to the border.

    image, label and maps (by name of run) are y x; numbers is what `figures` gathers.
    """
    titles = [f"EM, {title}, true outlines", *(f"confusion, {name}" for name in maps)]
    columns = len(titles) if len(titles) <= 4 else min(4, math.ceil(len(titles) / 2))
    figure, axes, bottom = _grid([image.shape] * len(titles), titles, columns, below=490)
    for one, values in zip(axes, [None, *maps.values()], strict=True):
        grey(one, image)
        if values is not None:
            overlay(one, heat(np.nan_to_num(values), (0, 1)))
        _outlines(one, label, width=1.6 if values is None else 0.8)
    if numbers["unit"] == "nm":
        scale_bar(axes[0], image.shape, numbers["pixel"][1])
    _color_bar(figure, bottom + CAPTION, "confusion, 0 (sure and right) to 1 (sure and wrong)")

    top, height = bottom + 90, 340
    width = figure.get_figwidth() * DPI / 2
    by_distance = _plot(figure, (80, top), (width - 110, height))
    histogram = _plot(figure, (width + 80, top), (width - 110, height))
    pixel = math.sqrt(math.prod(numbers["pixel"]))
    for i, name in enumerate(maps):
        found = numbers["runs"][name]["confusion"]
        style = {"color": LINES[i % len(LINES)], "linestyle": STYLES[i % len(STYLES)], "label": name}
        by_distance.plot(_centres(found["distance_edges_px"]) * pixel, found["confusion_density_by_distance"], **style)
        histogram.plot(_centres(found["histogram_edges"]), found["histogram_share_of_pixels"], **style)
    near = NEAR_PX * pixel
    by_distance.axvspan(-near, near, color="0.9", label=f"within {NEAR_PX} pixels of a border")
    by_distance.set(ylim=(0, None), ylabel="confusion density")
    by_distance.set_xlabel(f"distance to the border of a mitochondrion, {numbers['unit']} (negative: inside)")
    histogram.set(yscale="log", xlim=(0, 1), xlabel="confusion", ylabel="share of pixels (log scale)")
    for one in (by_distance, histogram):
        one.legend(fontsize=9, frameon=False)
    _save(figure, path)


def masks(rows: Sequence[tuple], path: Path, pixel_nm: tuple[float, float] | None) -> None:
    """Figure 5: right and wrong pixels. rows: (image y x, label y x, masks y x by title, title of the slice)."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    columns = 1 + len(rows[0][2])
    titles = [title for _, _, found, slice_title in rows for title in (slice_title, *found)]
    shapes = [image.shape for image, *_ in rows for _ in range(columns)]
    figure, axes, bottom = _grid(shapes, titles, columns, below=CAPTION + GAP)
    for i, (image, label, found, _) in enumerate(rows):
        here = axes[i * columns : (i + 1) * columns]
        grey(here[0], image)
        _outlines(here[0], label, width=1.2)
        if pixel_nm is not None:
            scale_bar(here[0], image.shape, pixel_nm[1])
        for one, mask in zip(here[1:], found.values(), strict=True):
            grey(one, image)
            colored = np.zeros((*label.shape, 4))
            outcomes = (mask & (label == 1), mask & (label == 0), ~mask & (label == 1))
            for pixels, color in zip(outcomes, OUTCOMES.values(), strict=True):
                colored[pixels] = *to_rgb(color), 0.6
            colored[label == IGNORE] = 1, 1, 1, 0.5
            overlay(one, colored, "nearest")
    handles = [Patch(color=color, label=text) for text, color in OUTCOMES.items()]
    handles.append(Patch(facecolor="0.55", label="true negative (the slice itself)"))
    if any((label == IGNORE).any() for _, label, *_ in rows):
        handles.append(Patch(facecolor="0.85", edgecolor="0.5", label="not scored"))
    _legend(figure, bottom, handles, len(handles))
    _save(figure, path)


def prototypes(image: np.ndarray, found: Mapping[str, np.ndarray], folder: Path) -> None:
    """Figure 7, assignments from the most to the least reliable prototype, and Figure 8, activation maps by group."""
    maps, reliability = found["maps"], found["reliability"]
    is_foreground = np.arange(len(maps)) < len(maps) // 2
    for suffix in SUFFIXES:
        path = folder / f"reliability{suffix}"
        activation_maps(image, assignments(maps), is_foreground, reliability, path, grouped=False)
        activation_maps(image, maps, is_foreground, reliability, folder / f"activations{suffix}")


def references(image: np.ndarray, label: np.ndarray, found: Mapping[str, np.ndarray], path: Path) -> None:
    """Reference points over usage, and direct beside rectified attention of the most reliable foreground prototype."""
    half = len(found["maps"]) // 2
    k = int(np.argmax(found["reliability"][:half]))
    direct = special.softmax(found["direct"][k])
    both = {"direct": direct, "rectified": found["rectified"][k]}
    scored = label != IGNORE
    titles = ["EM, true outlines", f"usage, and the {len(found['references'])} reference points (dots)"]
    for how, attention in both.items():
        (share,) = share_within(attention[None], label == 1, scored)
        titles.append(f"#{k}, {how}: {share:.0%} on mitochondria")
    figure, axes, bottom = _grid([image.shape] * 4, titles, 4, below=70)
    for one in axes:
        grey(one, image)
    _outlines(axes[0], label, width=1.6)
    overlay(axes[1], heat(np.log(found["usage"])))  # it spans decades
    stride = image.shape[0] / found["usage"].shape[0]
    y, x = ((index + 0.5) * stride - 0.5 for index in np.unravel_index(found["references"], found["usage"].shape))
    axes[1].scatter(x, y, s=9, color="white", edgecolors="black", linewidths=0.6)
    highest = max(attention.max() for attention in both.values()) * direct.size
    for one, attention in zip(axes[2:], both.values(), strict=True):
        times_even = np.maximum(attention * direct.size, 1e-9)
        overlay(one, heat(np.log(times_even), (math.log(highest / 1000), math.log(highest))))
    text = (
        f"attention of #{k}, {highest / 1000:.2g} to {highest:.0f} times an even share (log scale); usage its own range"
    )
    _color_bar(figure, bottom + CAPTION, text)
    _save(figure, path)


def reliability(records: Sequence[Mapping], summary: Mapping, path: Path) -> None:
    """The claim of Figure 7: reliability of each prototype in each image against how much it is active near borders,
    and against its agreement with the truth."""
    figure = new_figure(1500, 560)
    half = len(records[0]["reliability"]) // 2
    values = np.stack([record["reliability"] for record in records])
    sides = (
        ("share_near_border", f"share of its activation within {NEAR_PX} pixels of a border"),
        ("border_preference", "border preference (1/2: as active as elsewhere, 1: there alone)"),
        ("agreement", "share of its activation on its own class"),
    )
    for i, (key, text) in enumerate(sides):
        axes = _plot(figure, (80 + i * 480, 60), (420, 380))
        share = np.stack([record[key] for record in records])
        for group, color, marker, name in (
            (slice(None, half), FOREGROUND, "o", "foreground"),
            (slice(half, None), BACKGROUND, "s", "background"),
        ):
            axes.scatter(share[:, group], values[:, group], s=9, color=color, marker=marker, alpha=0.3, linewidths=0)
            means = share[:, group].mean(axis=0), values[:, group].mean(axis=0)
            label = f"{name} prototype (mean over images)"
            axes.scatter(*means, s=60, color=color, marker=marker, edgecolors="black", label=label)
        found = summary[f"reliability_with_{key}"]
        axes.set(xlabel=text, ylabel="reliability" if i == 0 else "")
        text = f"Spearman {found['spearman']:+.2f}, Pearson {found['pearson']:+.2f}\nwithin images: "
        text += f"foreground {found['spearman_within_images_foreground']:+.2f}, "
        text += f"background {found['spearman_within_images_background']:+.2f}"
        axes.set_title(text, loc="left", fontsize=9)
    handles, _ = axes.get_legend_handles_labels()
    _legend(figure, 510, handles, 2)
    _save(figure, path)


def cosines(summaries: Mapping[str, Mapping], path: Path) -> None:
    """Figure 8's number: cosine between the assignment maps of every two prototypes, a matrix a run."""
    size, columns = 300, min(4, len(summaries))
    rows = math.ceil(len(summaries) / columns)
    figure = new_figure(columns * (size + 80) + GAP, rows * (size + 130) + 70)
    for i, (name, summary) in enumerate(summaries.items()):
        corner = 60 + i % columns * (size + 80), 75 + i // columns * (size + 130)
        axes = _plot(figure, corner, (size, size))
        matrix = np.asarray(summary["pairwise_cosine"])
        axes.imshow(matrix, cmap="cividis", vmin=0, vmax=1, aspect="auto")
        axes.axhline(len(matrix) / 2 - 0.5, color="white", linewidth=1.5)
        axes.axvline(len(matrix) / 2 - 0.5, color="white", linewidth=1.5)
        axes.locator_params(integer=True)
        axes.grid(visible=False)
        mean = summary["mean_pairwise_cosine"]
        text = f"{name}, diversity weight {summary['diversity_weight']:g}\nmean cosine over pairs {mean['all']:.2f}\n"
        text += f"(foreground {mean['foreground']:.2f}, background {mean['background']:.2f})"
        axes.set_title(text, loc="left", fontsize=9, parse_math=False)
        axes.set(xlabel="prototype, the foreground ones first")
    _color_bar(figure, figure.get_figheight() * DPI - 30, "cosine, 0 to 1", cmap="cividis")
    _save(figure, path)


# ---------------------------------------------------------------------------------------------------------------------
# Pieces; positions are pixels of the PNG from the figure's top left
# ---------------------------------------------------------------------------------------------------------------------


def _grid(shapes: Sequence[tuple[int, int]], titles: Sequence[str], columns: int, below: int):
    """Panels row by row; -> (figure, axes, where they end), with `below` pixels left free under them."""
    side = max(220, min(480, 1400 // columns))
    sizes = [fit(shape, (side, side)) for shape in shapes]
    width, height = (max(size) for size in zip(*sizes, strict=True))
    rows = math.ceil(len(titles) / columns)
    bottom = GAP + rows * (height + CAPTION + GAP)
    figure = new_figure(max(columns * (width + GAP) + GAP, 900), bottom + below)
    axes = []
    for i, (size, title) in enumerate(zip(sizes, titles, strict=True)):
        corner = GAP + i % columns * (width + GAP), GAP + CAPTION + i // columns * (height + CAPTION + GAP)
        axes.append(panel(figure, corner, size, title))
    return figure, axes, bottom


def _plot(figure, corner: tuple[float, float], size: tuple[float, float]):
    axes = figure.add_axes(bounds(figure, corner, size))
    axes.tick_params(labelsize=9)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _outlines(axes, label: np.ndarray, width: float) -> None:
    from matplotlib.collections import LineCollection

    axes.add_collection(LineCollection(borders(label == 1), colors=TRUE, linewidths=width))


def _color_bar(figure, top: float, text: str, cmap: str = "inferno") -> None:
    axes = panel(figure, (GAP, top), (320, 12), text)
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=cmap, aspect="auto")


def _legend(figure, top: float, handles: list, columns: int) -> None:
    anchor = 0.5, 1 - top / (figure.get_figheight() * DPI)
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=anchor, ncols=columns, frameon=False, fontsize=9)


def _centres(edges: np.ndarray) -> np.ndarray:
    return (np.asarray(edges)[:-1] + np.asarray(edges)[1:]) / 2


def _save(figure, path: Path) -> None:
    for suffix in SUFFIXES:
        save(figure, path.with_name(path.name + suffix))
