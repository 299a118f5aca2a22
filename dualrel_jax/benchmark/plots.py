"""Plots of a benchmark: score against labelled slices, and the consistency weight of each method over steps."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from dualrel_jax.benchmark.statistics import BASELINE, Entry
from dualrel_jax.benchmark.tables import rows_of
from dualrel_jax.utils.atomic import replacing
from dualrel_jax.visualization.canvas import LINES

COLORS = (*LINES[1:], LINES[0])  # the baseline is grey
MARKERS = "osD^vP*X"
GREY = "0.45"


def score_curves(entries: Sequence[Entry], paths: Sequence[Path]) -> None:
    """Pooled JAC against labelled slices, a panel a data set; the band lies between the two supervised bounds."""
    targets = list(dict.fromkeys(entry.target for entry in entries))
    figure, panels = _figure(len(targets))
    styles = _styles(entries)
    for target, axes in zip(targets, panels, strict=True):
        own = [entry for entry in entries if entry.target == target and "jac_pooled" in entry.scores]
        bound = rows_of(own, BASELINE).get("all")
        for i, (row, style) in enumerate(styles.items()):
            points = [entry for entry in rows_of(own, row).values() if entry is not bound]
            # Side by side, so that the bars of one share can be told apart.
            x = [entry.labelled_slices * 1.02 ** (i - (len(styles) - 1) / 2) for entry in points]
            mean, sd = [e.scores["jac_pooled"][0] for e in points], [e.scores["jac_pooled"][1] or 0 for e in points]
            if not points:
                continue
            axes.errorbar(x, mean, sd, **style, capsize=2, linewidth=1.4, markersize=5, elinewidth=0.8)
            if row == BASELINE and bound:
                axes.fill_between(x, mean, bound.scores["jac_pooled"][0], color="0.93", zorder=0, linewidth=0)
        if bound:
            text = f"{bound.title}, all {bound.labelled_slices}"
            axes.axhline(bound.scores["jac_pooled"][0], color=GREY, linestyle=":", linewidth=1.4, label=text)
        slices = sorted({entry.labelled_slices for entry in own if entry is not bound})
        axes.set_xscale("log")
        axes.set_xticks(slices, [str(n) for n in slices])
        axes.set_xticks([], minor=True)
        axes.set(title=f"tested on {target}", xlabel="labelled slices", ylabel="JAC pooled, %")
    _finish(figure, panels, paths)


def weight_curves(config: Mapping, trials: Sequence[Mapping], paths: Sequence[Path]) -> None:
    """Consistency weight over steps, of the first seed at the fewest labelled slices; rows without one are left out."""
    chosen = {}
    for trial in sorted(trials, key=lambda trial: (trial["labelled_slices"], trial["seed"])):
        if trial["consistency_weight"][0]:
            chosen.setdefault(trial["row"], trial)
    figure, (axes,) = _figure(1)
    rows = {row: config["rows"][row]["title"] for row in config["rows"]}
    for row, style in _style_table(rows).items():
        if row in chosen:
            steps, weights = chosen[row]["consistency_weight"]
            every = max(1, len(steps) // 8)
            axes.plot(steps, weights, **style, linewidth=1.4, markersize=5, markevery=every)
    axes.set(title="Weight of the unlabelled terms", xlabel="step", ylabel="weight in the loss")
    if any(max(chosen[row]["consistency_weight"][1]) > 0 for row in chosen):
        peaks = [max(trial["consistency_weight"][1]) for trial in chosen.values()]
        if max(peaks) > 20 * statistics.median(peaks):
            axes.set_yscale("symlog", linthresh=0.1)
    if not chosen:
        axes.text(0.5, 0.5, "No method here logs a consistency weight", ha="center", transform=axes.transAxes)
    _finish(figure, [axes], paths)


def _styles(entries: Sequence[Entry]) -> dict[str, dict]:
    return _style_table({entry.row: entry.title for entry in entries})


def _style_table(titles: Mapping[str, str]) -> dict[str, dict]:
    """Row -> colour, marker and label; the same row looks the same in every panel."""
    styles = {}
    for row, title in titles.items():
        i = sum(key != BASELINE for key in styles)
        color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
        line = "-" if i < len(COLORS) else "--"
        styles[row] = {"color": color, "marker": marker, "linestyle": line, "label": title}
        if row == BASELINE:
            styles[row] = {"color": GREY, "marker": ".", "linestyle": "--", "label": title}
    return styles


def _figure(panels: int):
    """A figure without pyplot, so that no display is needed, with its axes side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * panels + 2.4, 3.9), dpi=150, facecolor="white", layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _finish(figure, panels, paths: Sequence[Path]) -> None:
    for axes in panels:
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    handles = {
        label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    if handles:
        figure.legend(handles.values(), handles, loc="outside right center", frameon=False, fontsize=8)
    for path in paths:
        with replacing(path) as part:
            figure.savefig(part, format=path.suffix[1:])
