"""Draws the figures of the paper, each as PNG and PDF, from arrays and the numbers of the analyses.

`runs` means name of a run -> what is drawn of it; positions are pixels of the PNG from the figure's top left.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import special

from dualrel_jax.constants import IGNORE
from dualrel_jax.visualization import canvas
from dualrel_jax.visualization.border_analysis import NEAR_PX
from dualrel_jax.visualization.canvas import BACKGROUND, CAPTION, DPI, FOREGROUND, GAP, LINES, TRUE
from dualrel_jax.visualization.prototype_analysis import assignments, share_within
from dualrel_jax.visualization.prototype_maps import activation_maps

SUFFIXES = (".png", ".pdf")
STYLES = ("-", "--", "-.", ":")
# Yellow, vermillion and blue differ in lightness too; a true negative stays grey.
OUTCOMES = {"true positive": "#F0E442", "false positive": "#D55E00", "false negative": "#0072B2"}


def confusion_figure(
    image: np.ndarray, label: np.ndarray, runs: Mapping[str, np.ndarray], numbers: Mapping, path: Path, *, title: str
) -> None:
    """Figure 1: confusion (Eq. 1) over EM for each run, its mean by distance to the border, and its histogram.

    Args:
        image, label: `y x`.
        runs: confusion `y x` of each run.
        numbers: the content of figures.json, see `figures.write_figures`.
        path: without suffix.
        title: which slice this is.
    """
    titles = [f"EM, {title}, with true outlines", *(f"confusion of {name}" for name in runs)]
    columns = len(titles) if len(titles) <= 4 else min(4, math.ceil(len(titles) / 2))
    figure, panels, bottom = _grid([image.shape] * len(titles), titles, columns, below=490)
    for axes, confusion in zip(panels, [None, *runs.values()], strict=True):
        canvas.grey(axes, image)
        if confusion is not None:
            canvas.overlay(axes, canvas.heat(np.nan_to_num(confusion), (0, 1)))
        _outline(axes, label, width=1.6 if confusion is None else 0.8)
    if numbers["unit"] == "nm":
        canvas.scale_bar(panels[0], image.shape, numbers["pixel"][1])
    _color_bar(figure, bottom + CAPTION, "confusion, 0 (certain and correct) to 1 (certain and wrong)")
    top, width = bottom + 90, figure.get_figwidth() * DPI / 2
    summaries = {name: numbers["runs"][name]["confusion"] for name in runs}
    by_distance = _plot(figure, (80, top), (width - 110, 340))
    _plot_confusion_by_distance(by_distance, summaries, numbers)
    _plot_confusion_histogram(_plot(figure, (width + 80, top), (width - 110, 340)), summaries)
    _save(figure, path)


def _plot_confusion_by_distance(axes, summaries: Mapping[str, Mapping], numbers: Mapping) -> None:
    pixel = math.sqrt(math.prod(numbers["pixel"]))
    for style, (name, summary) in zip(_line_styles(len(summaries)), summaries.items(), strict=True):
        distance = _centres(summary["distance_edges_px"]) * pixel
        axes.plot(distance, summary["confusion_density_by_distance"], **style, label=name)
    axes.axvspan(-NEAR_PX * pixel, NEAR_PX * pixel, color="0.9", label=f"within {NEAR_PX} pixels of a border")
    axes.set(ylim=(0, None), ylabel="confusion density (mean confusion)")
    axes.set_xlabel(f"distance to the nearest mitochondrion border, {numbers['unit']} (negative: inside)", fontsize=9)
    axes.legend(fontsize=9, frameon=False)


def _plot_confusion_histogram(axes, summaries: Mapping[str, Mapping]) -> None:
    for style, (name, summary) in zip(_line_styles(len(summaries)), summaries.items(), strict=True):
        axes.plot(_centres(summary["histogram_edges"]), summary["histogram_share_of_pixels"], **style, label=name)
    axes.set(yscale="log", xlim=(0, 1), xlabel="confusion", ylabel="fraction of pixels (log scale)")
    axes.legend(fontsize=9, frameon=False)


def mask_figure(rows: Sequence[tuple], path: Path, pixel_nm: tuple[float, float] | None) -> None:
    """Figure 5: correct and wrong pixels. rows: (image y x, label y x, masks y x by title, title of the slice)."""
    from matplotlib.patches import Patch

    columns = 1 + len(rows[0][2])
    titles = [title for _, _, masks, slice_title in rows for title in (slice_title, *masks)]
    shapes = [image.shape for image, *_ in rows for _ in range(columns)]
    figure, panels, bottom = _grid(shapes, titles, columns, below=CAPTION + GAP)
    for i, (image, label, masks, _) in enumerate(rows):
        first, *others = panels[i * columns : (i + 1) * columns]
        canvas.grey(first, image)
        _outline(first, label, width=1.2)
        if pixel_nm is not None:
            canvas.scale_bar(first, image.shape, pixel_nm[1])
        for axes, mask in zip(others, masks.values(), strict=True):
            canvas.grey(axes, image)
            canvas.overlay(axes, _outcome_colours(mask, label), "nearest")
    handles = [Patch(color=color, label=text) for text, color in OUTCOMES.items()]
    handles.append(Patch(facecolor="0.55", label="true negative (EM alone)"))
    if any((label == IGNORE).any() for _, label, *_ in rows):
        handles.append(Patch(facecolor="0.85", edgecolor="0.5", label="not scored"))
    _legend(figure, bottom, handles, len(handles))
    _save(figure, path)


def _outcome_colours(mask: np.ndarray, label: np.ndarray) -> np.ndarray:
    """`y x rgba`: the colours of OUTCOMES, pale where the label is ignored."""
    from matplotlib.colors import to_rgb

    rgba = np.zeros((*label.shape, 4))
    outcomes = (mask & (label == 1), mask & (label == 0), ~mask & (label == 1))
    for pixels, color in zip(outcomes, OUTCOMES.values(), strict=True):
        rgba[pixels] = *to_rgb(color), 0.6
    rgba[label == IGNORE] = 1, 1, 1, 0.5
    return rgba


def prototype_figures(image: np.ndarray, activations: Mapping[str, np.ndarray], folder: Path) -> None:
    """Figure 7, assignments from the most to the least reliable prototype, and Figure 8, activation maps by class."""
    maps, reliability = activations["maps"], activations["reliability"]
    is_foreground = np.arange(len(maps)) < len(maps) // 2
    for suffix in SUFFIXES:
        path = folder / f"reliability{suffix}"
        activation_maps(image, assignments(maps), is_foreground, reliability, path, grouped=False)
        activation_maps(image, maps, is_foreground, reliability, folder / f"activations{suffix}")


def reference_figure(image: np.ndarray, label: np.ndarray, activations: Mapping[str, np.ndarray], path: Path) -> None:
    """Reference points over usage, and direct beside rectified attention of the most reliable foreground prototype."""
    k = int(np.argmax(activations["reliability"][: len(activations["maps"]) // 2]))
    attentions = {"direct": special.softmax(activations["direct"][k]), "rectified": activations["rectified"][k]}
    titles = ["EM with true outlines", f"usage, {len(activations['references'])} reference points (dots)"]
    for how, attention in attentions.items():
        (fraction,) = share_within(attention[None], label == 1, label != IGNORE)
        titles.append(f"{how} attention: {fraction:.0%} on mitochondria")
    figure, panels, bottom = _grid([image.shape] * 4, titles, 4, below=70)
    for axes in panels:
        canvas.grey(axes, image)
    _outline(panels[0], label, width=1.6)
    canvas.overlay(panels[1], canvas.heat(np.log(activations["usage"])))  # it spans decades
    stride = image.shape[0] / activations["usage"].shape[0]
    index = np.unravel_index(activations["references"], activations["usage"].shape)
    y, x = ((along + 0.5) * stride - 0.5 for along in index)
    panels[1].scatter(x, y, s=9, color="white", edgecolors="black", linewidths=0.6)
    pixels = attentions["direct"].size
    highest = max(attention.max() for attention in attentions.values()) * pixels
    for axes, attention in zip(panels[2:], attentions.values(), strict=True):
        times_uniform = np.maximum(attention * pixels, 1e-9)
        canvas.overlay(axes, canvas.heat(np.log(times_uniform), (math.log(highest / 1000), math.log(highest))))
    text = f"attention of prototype #{k}: {highest / 1000:.2g} to {highest:.0f} times uniform attention (log scale); "
    _color_bar(figure, bottom + CAPTION, f"{text}usage: its own range")
    _save(figure, path)


def reliability_figure(records: Sequence[Mapping], summary: Mapping, path: Path) -> None:
    """The claim of Figure 7: reliability of each prototype in each image against its activity near borders, and
    against its agreement with the truth."""
    from matplotlib.lines import Line2D

    figure = canvas.new_figure(1500, 560)
    half = len(records[0]["reliability"]) // 2
    groups = {
        "foreground": (slice(None, half), {"color": FOREGROUND, "marker": "o"}),
        "background": (slice(half, None), {"color": BACKGROUND, "marker": "s"}),
    }
    reliability = np.stack([record["reliability"] for record in records])
    quantities = (
        ("share_near_border", f"fraction of its activation within {NEAR_PX} pixels of a border"),
        ("border_preference", "border preference (0.5: as elsewhere, 1: only at borders)"),
        ("agreement", "fraction of its activation on its own class"),
    )
    for i, (key, text) in enumerate(quantities):
        axes = _plot(figure, (80 + i * 480, 60), (420, 380))
        values = np.stack([record[key] for record in records])
        for name, (group, style) in groups.items():
            axes.scatter(values[:, group], reliability[:, group], s=9, alpha=0.3, linewidths=0, **style)
            means = values[:, group].mean(axis=0), reliability[:, group].mean(axis=0)
            axes.scatter(*means, s=60, edgecolors="black", label=f"{name} prototype, mean over images", **style)
        axes.set(xlabel=text, ylabel="reliability" if i == 0 else "")
        axes.set_title(_correlation_text(summary[f"reliability_with_{key}"]), loc="left", fontsize=9)
    handles, _ = axes.get_legend_handles_labels()
    small = {"linestyle": "none", "marker": "o", "markersize": 3, "color": "0.5"}
    handles.append(Line2D([], [], **small, label="small: one prototype in one image"))
    _legend(figure, 510, handles, 3)
    _save(figure, path)


def _correlation_text(correlation: Mapping[str, float]) -> str:
    signed = {name: f"{round(value, 2) + 0.0:+.2f}" for name, value in correlation.items()}  # + 0.0: never -0.00
    return (
        f"Spearman {signed['spearman']}, Pearson {signed['pearson']}\nSpearman within an image: foreground "
        f"{signed['spearman_within_images_foreground']}, background {signed['spearman_within_images_background']}"
    )


def cosine_figure(summaries: Mapping[str, Mapping], path: Path) -> None:
    """The number behind Figure 8: cosine between the assignment maps of every two prototypes, one matrix per run."""
    size, columns = 300, min(4, len(summaries))
    rows = math.ceil(len(summaries) / columns)
    figure = canvas.new_figure(columns * (size + 80) + GAP, rows * (size + 130) + 70)
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
        text = f"{name}, diversity weight {summary['diversity_weight']:g}\nmean cosine of two prototypes "
        text += f"{mean['all']:.2f}\n(foreground {mean['foreground']:.2f}, background {mean['background']:.2f})"
        axes.set_title(text, loc="left", fontsize=9, parse_math=False)
        axes.set(xlabel="prototype (foreground first)", ylabel="prototype")
    _color_bar(figure, figure.get_figheight() * DPI - 30, "cosine of assignment maps, 0 to 1", cmap="cividis")
    _save(figure, path)


# ---------------------------------------------------------------------------------------------------------------------
# Pieces
# ---------------------------------------------------------------------------------------------------------------------


def _grid(shapes: Sequence[tuple[int, int]], titles: Sequence[str], columns: int, below: int):
    """Panels row by row; -> (figure, axes, bottom of the panels), with `below` pixels left free under them."""
    side = max(220, min(480, 1400 // columns))
    sizes = [canvas.fit(shape, (side, side)) for shape in shapes]
    width, height = (max(size) for size in zip(*sizes, strict=True))
    rows = math.ceil(len(titles) / columns)
    bottom = GAP + rows * (height + CAPTION + GAP)
    figure = canvas.new_figure(max(columns * (width + GAP) + GAP, 900), bottom + below)
    panels = []
    for i, (size, title) in enumerate(zip(sizes, titles, strict=True)):
        corner = GAP + i % columns * (width + GAP), GAP + CAPTION + i // columns * (height + CAPTION + GAP)
        panels.append(canvas.panel(figure, corner, size, title))
    return figure, panels, bottom


def _plot(figure, corner: tuple[float, float], size: tuple[float, float]):
    """Axes with a faint grid."""
    axes = figure.add_axes(canvas.bounds(figure, corner, size))
    axes.tick_params(labelsize=9)
    axes.grid(color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _line_styles(count: int) -> list[dict[str, str]]:
    return [{"color": LINES[i % len(LINES)], "linestyle": STYLES[i % len(STYLES)]} for i in range(count)]


def _outline(axes, label: np.ndarray, width: float) -> None:
    from matplotlib.collections import LineCollection

    axes.add_collection(LineCollection(canvas.borders(label == 1), colors=TRUE, linewidths=width))


def _color_bar(figure, top: float, text: str, cmap: str = "inferno") -> None:
    axes = canvas.panel(figure, (GAP, top), (320, 12), text)
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=cmap, aspect="auto")


def _legend(figure, top: float, handles: list, columns: int) -> None:
    anchor = 0.5, 1 - top / (figure.get_figheight() * DPI)
    figure.legend(handles=handles, loc="upper center", bbox_to_anchor=anchor, ncols=columns, frameon=False, fontsize=9)


def _centres(edges: np.ndarray) -> np.ndarray:
    return (np.asarray(edges)[:-1] + np.asarray(edges)[1:]) / 2


def _save(figure, path: Path) -> None:
    for suffix in SUFFIXES:
        canvas.save(figure, path.with_name(path.name + suffix))
