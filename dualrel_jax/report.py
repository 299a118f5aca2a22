"""A finished run on one page: `dualrel --workdir RUN --mode=report` writes report.html, to read, send and print."""

import csv
import json
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from string import Template

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.constants import METHOD_TITLES
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.errors import InputError
from dualrel_jax.inference.run import load_run
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_records
from dualrel_jax.utils.ranges import evenly_spaced
from dualrel_jax.utils.text import format_duration
from dualrel_jax.visualization import charts, overlays
from dualrel_jax.visualization.page import code, figure, grid, paragraph, picture, table

TEMPLATE = Path(__file__).parent / "visualization" / "report.html"
DRAWN = 4  # slices drawn, from the worst to the best
SCORES = {  # in metrics.json -> name, what it says
    "jac_pooled": ("JAC", "shared area over joint area (intersection over union); 1 is perfect"),
    "dsc_pooled": ("DSC", "twice the shared area over the sum of both areas"),
    "precision_pooled": ("Precision", "share of the predicted area that is right"),
    "recall_pooled": ("Recall", "share of the true area that is found"),
    "jac_per_slice_mean": ("JAC, mean of slices", "every slice counts the same, however much it holds"),
    "dsc_per_slice_mean": ("DSC, mean of slices", "as above"),
    "confusion_density": ("Confusion density", "mean over pixels of one minus the probability of the true class"),
}


@dataclass(frozen=True)
class Found:
    """What a work folder holds; empty or None where a file is missing."""

    workdir: Path
    config: ConfigDict
    about: dict  # run.json
    scores: dict  # metrics.json
    slices: list[dict]  # slices.csv: {"z": int, "jac": float, or None where undefined}
    records: list[dict]  # metrics.jsonl
    partition: Partition | None

    def series(self, name: str) -> tuple[list, list]:
        """(steps, finite values) of a logged scalar; JAC without any foreground is NaN."""
        points = [(one["step"], one[name]) for one in self.records if name in one and math.isfinite(one[name])]
        return [step for step, _ in points], [value for _, value in points]

    @property
    def step(self) -> int:
        return max((record["step"] for record in self.records), default=0)


def write_report(workdir: str | Path, config: ConfigDict | None = None) -> Path:
    """Writes `workdir`/report.html, one file with everything in it; -> its path.

    Slices are segmented again, by `config` or the run's own, only if their pictures are older than the scores. What a
    run does not have is left out, or said.

    Raises:
        InputError: `workdir` holds no run.
    """
    found = read(Path(workdir))
    sections = {
        "scores": ("Scores", scores(found)),
        "slices": ("Slices", slices(found, config)),
        "volume": ("Segmented volume", volume(found)),
        "training": ("Training", training(found)),
        "prototypes": ("Prototypes", prototypes(found)),
        "labels": ("Labelled slices", labels(found)),
        "config": ("Config", changes(found)),
        "machine": ("Software and time", machine(found)),
        "repeat": ("How to repeat this", repeat(found)),
    }
    sections = {name: section for name, section in sections.items() if section[1]}
    page = Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=f"Mitochondria in {escape(data_name(found.config))}, by {escape(method_name(found.config))}",
        head=head(found),
        links="\n".join(f'<a href="#{name}">{heading}</a>' for name, (heading, _) in sections.items()),
        body="\n".join(
            f'<section id="{name}">\n<h2>{title}</h2>\n{text}\n</section>' for name, (title, text) in sections.items()
        ),
        foot=f"Written by <code>dualrel --mode=report</code> on {day(datetime.now())}.",
    )
    path = found.workdir / "report.html"
    write_text(path, page.encode("ascii", "xmlcharrefreplace").decode())  # the same on every system
    print(f"Report: {path}")
    return path


def read(workdir: Path) -> Found:
    config = config_lib.load(workdir / "config.json")
    about, metrics = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for path in (workdir / "run.json", workdir / "metrics.json")
    )
    rows, partition = [], None
    if metrics and (workdir / "slices.csv").exists():
        with (workdir / "slices.csv").open(newline="", encoding="utf-8") as file:
            rows = [
                {"z": int(row["z"]), "jac": float(row["jac"]) if row["jac"] else None} for row in csv.DictReader(file)
            ]
    if (workdir / "partition.json").exists():
        partition = Partition.load(workdir / "partition.json")
    return Found(workdir, config, about, metrics, rows, read_records(workdir / "metrics.jsonl"), partition)


# ---------------------------------------------------------------------------------------------------------------------
# Sections: "" where there is nothing to show
# ---------------------------------------------------------------------------------------------------------------------


def head(found: Found) -> str:
    """The result in a sentence, and the run in a few facts."""
    config, facts = found.config, {}
    facts["Method"] = method_name(config)
    facts["Data"] = data_name(config)
    if found.partition:
        labelled, every = len(found.partition.labelled), len(set(found.partition.labelled + found.partition.unlabelled))
        facts["Labels"] = f"{labelled} of {every} slices"
    if found.about.get("pixel_nm"):
        facts["Pixel of training"] = f"{' × '.join(f'{size:g}' for size in found.about['pixel_nm'])} nm"
    facts["Training"] = f"{found.step} steps" if found.step else "not begun"
    if seconds := training_seconds(found):
        facts["Training"] += f", {format_duration(seconds)}"
    newest = next(path for name in ("metrics.jsonl", "config.json") if (path := found.workdir / name).exists())
    facts["Date"] = day(datetime.fromtimestamp(newest.stat().st_mtime))
    entries = "".join(f"<div><dt>{escape(key)}</dt><dd>{escape(value)}</dd></div>" for key, value in facts.items())
    return f'<p class="words">{in_words(found)}</p>\n<dl>{entries}</dl>'


def in_words(found: Found) -> str:
    """summary.txt without its list of files, or why there is none."""
    steps = found.config.train.steps
    summary = found.workdir / "summary.txt"
    if found.scores and summary.exists():
        words = escape(summary.read_text().partition("\n  Scores:")[0])
    elif found.scores:
        words = f"Overlap (JAC) {number(found.scores.get('jac_pooled'))} on {found.scores.get('slices')} slices."
    else:
        evaluate = code("dualrel", f"--workdir={found.workdir}", "--mode=evaluate")
        words = (
            f"Not scored: {evaluate} compares it with labelled slices that it has not trained on, where there are any."
        )
    if found.step < steps:
        words += f" The training stands at step {found.step} of {steps}; its own command continues it (see the end)."
    return words


def scores(found: Found) -> str:
    rows = [(name, number(found.scores[key]), what) for key, (name, what) in SCORES.items() if key in found.scores]
    if not rows:
        return ""
    about = f"{found.scores['slices']} labelled slices of {', '.join(found.scores['part'])}"
    if empty := found.scores["slices_without_foreground"]:
        about += f", {empty} of them without mitochondria in label and prediction (no JAC of their own)"
    about += f"; {found.scores['weights']} weights of step {found.scores['step']}."
    return paragraph(escape(about)) + table(("Score", "Value", "What it says"), rows) + along_z(found)


def along_z(found: Found) -> str:
    """JAC of each slice, a chart for each scored volume."""
    stacks, names = [], found.scores["part"]
    for row in found.slices:
        if not stacks or row["z"] <= stacks[-1][-1]["z"]:
            stacks.append([])
        stacks[-1].append(row)
    figures = []
    for i, stack in enumerate(stacks):
        name = names[i] if len(names) == len(stacks) else ", ".join(names)
        stack = [row for row in stack if row["jac"] is not None]
        if len(stack) > 1:
            z, jac = [row["z"] for row in stack], [row["jac"] for row in stack]
            worst, best = (choose(stack, key=lambda row: row["jac"]) for choose in (min, max))
            caption = (
                f"<b>JAC of each slice</b> of {escape(name)}: {worst['jac']:.2f} at worst (z = {worst['z']}), "
                f"{best['jac']:.2f} at best (z = {best['z']}); dashed: mean {np.mean(jac):.2f}."
            )
            chart = charts.line(z, jac, f"JAC of each slice of {name}", "z", (0, 1), float(np.mean(jac)))
            figures.append(figure(chart, caption))
    return grid(figures)


def slices(found: Found, config: ConfigDict | None) -> str:
    """Outlines over EM, from the worst to the best slice; where that cannot be, those that the run drew itself."""
    jac = {i: row["jac"] for i, row in enumerate(found.slices) if row["jac"] is not None}
    if not jac:
        drawn = sorted((found.workdir / "pictures").glob("validation_*.png"))
        return outlines(drawn[-1], f"Validation slices at step {int(drawn[-1].stem[-6:])}.") if drawn else ""
    order = sorted(jac, key=jac.get)
    ranks = evenly_spaced(range(len(order)), DRAWN)
    try:
        paths = draw_slices(found, [order[rank] for rank in ranks], config)
    except InputError as error:
        drawn = found.workdir / "pictures" / "masks.png"
        why = f"Slices spread over z; the worst and the best could not be drawn: {escape(str(error))}"
        return outlines(drawn, why) if drawn.exists() else ""
    figures = []
    for path, rank in zip(paths, ranks, strict=True):
        row = found.slices[order[rank]]
        place = {0: "Worst", len(order) - 1: "Best"}.get(rank, f"{rank + 1} of {len(order)}")
        about = f"z = {row['z']}, JAC {row['jac']:.2f}"
        figures.append(outlines(path, f"<b>{place}</b>: {about}.", f", {about}"))
    note = "From the worst to the best slice, evenly spaced in rank. Orange: predicted; blue: true."
    return paragraph(note) + grid(figures, "pictures")


def outlines(path: Path, caption: str, which: str = "") -> str:
    alt = f"Outlines of predicted (orange) and true (blue) mitochondria over EM{which}"
    return figure(picture(path, alt), caption, "wide")


def draw_slices(found: Found, chosen: Sequence[int], config: ConfigDict | None) -> list[Path]:
    """A picture of each chosen row of slices.csv, made if it is older than the scores.

    Raises:
        InputError: the run cannot be loaded, or is not what was scored.
    """
    paths = [found.workdir / "pictures" / f"slice_{i:04d}.png" for i in chosen]
    if all(is_newer(path, found.workdir / "slices.csv") for path in paths):
        return paths
    run = load_run(found.workdir, config)
    tested = [(part, z) for part in run.test_parts() for z in part.labelled_zs]
    here = [part.image.path for part in run.test_parts()], run.step, run.config.predict.weights
    scored = tuple(found.scores.get(key) for key in ("data", "step", "weights"))
    if here != scored or [z for _, z in tested] != [row["z"] for row in found.slices]:
        raise InputError("metrics.json scores other data or another step; score this run again by --mode=evaluate.")
    for i, path in zip(chosen, paths, strict=True):
        part, z = tested[i]
        image = part.image_at(z)
        mask = run.predictor(run.variables, image) > run.threshold
        overlays.mask_outlines(image, mask, part.label_at(z), path, pixel_nm=run.pixel_nm)
    return paths


def volume(found: Found) -> str:
    """What --mode=predict and --mode=instances last wrote into the work folder."""
    figures = []
    mask, instances = found.workdir / "prediction" / "mask.png", found.workdir / "instances" / "instances.png"
    if mask.exists():
        figures.append(outlines(mask, "<b>Prediction</b> on four slices of the volume; orange: outlines."))
    if instances.exists() and (about := json.loads(instances.with_suffix(".json").read_text())).get("total_um3"):
        caption = (
            f"<b>{about['instances']} mitochondria</b>, {about['cut_by_border']} of them cut by the border; in all "
            f"{about['total_um3']:.4g} µm³, in the median {about['median_um3']:.3g} µm³. Numbers: ids in instances.csv."
        )
        alt = "Numbered mitochondria in four slices, each in its own colour"
        figures.append(figure(picture(instances, alt), caption, "wide"))
    return "\n".join(figures)


def is_newer(path: Path, source: Path) -> bool:
    return path.exists() and path.stat().st_mtime >= source.stat().st_mtime


def training(found: Found) -> str:
    if not found.records:
        return ""
    figures = []
    names = sorted({name for record in found.records for name in record})
    weights = [name for name in names if name.startswith("train/") and name.endswith("_weight")]
    for name in ("train/loss", "validation/jac_pooled", *weights):
        steps, values = found.series(name)
        if not steps:
            continue
        title, limits, note = name.partition("/")[2].replace("_", " ").capitalize(), (min(0, *values), max(values)), ""
        if name == "validation/jac_pooled":
            best = int(np.argmax(values))
            title, limits = "JAC on validation slices", (0, 1)
            note = f", best {values[best]:.3f} at step {steps[best]}"
        figures.append(
            figure(charts.line(steps, values, title, limits=limits), f"<b>{escape(title)}</b> by step{note}.")
        )
    every = found.workdir / "pictures" / "curves.png"
    if not is_newer(every, found.workdir / "metrics.jsonl"):
        overlays.curves(found.records, every)
    image = f'<div class="scroll">{picture(every, "Every logged number by step")}</div>'
    return grid(figures) + f"<details><summary>Every curve</summary>{image}</details>"


def prototypes(found: Found) -> str:
    path = found.workdir / "pictures" / "prototypes.png"
    if not path.exists():
        return ""
    caption = (
        "What each prototype is active on, in one slice. Orange frames: prototypes of mitochondria; blue: of the rest. "
        "Reliability is the weight of a prototype for this slice, 1 on average: the higher, the better do two views of "
        "the slice agree about it."
    )
    return figure(picture(path, "Activation of each prototype over one slice, with its reliability"), caption, "wide")


def labels(found: Found) -> str:
    """The slices whose labels were used, a strip for each training volume."""
    if not found.partition:
        return ""
    figures = []
    for name in dict.fromkeys(part for part, _ in found.partition.labelled + found.partition.unlabelled):
        labelled, unlabelled = (
            [z for part, z in group if part == name] for group in (found.partition.labelled, found.partition.unlabelled)
        )
        every = len(set(labelled + unlabelled))
        text = f"{len(labelled)} of {every} slices of {name} have labels that were used"
        where = ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in charts.runs(labelled))
        text += f": z = {where}." if labelled else "."
        figures.append(figure(charts.strip(labelled, unlabelled, text), escape(text)))
    return grid(figures)


def changes(found: Found) -> str:
    rows = [(key, json.dumps(value), json.dumps(default)) for key, value, default in config_lib.changes(found.config)]
    told = table(("Field", "Here", "Default"), rows) if rows else paragraph("Every field has its default.")
    config = escape(json.dumps(found.config.to_dict(), indent=2))
    return f"{told}<details><summary>The full config</summary><pre>{config}</pre></details>"


def machine(found: Found) -> str:
    rows = []
    if found.about:
        devices = found.about["devices"]
        rows.append(("Devices", f"{len(devices)}: {', '.join(devices)}"))
        if found.about["git_revision"]:
            revision, dirty, _ = found.about["git_revision"].partition("-dirty")
            rows.append(("Git revision", revision[:12] + (", with changes that were not committed" if dirty else "")))
        rows.append(("Python", found.about["python"]))
        rows += found.about["versions"].items()
    steps, seconds = found.series("speed/seconds_per_step")
    if steps:
        rows.append(("A step", f"{np.median(seconds):.3g} s (median)"))
        rows.append(("All steps", f"{format_duration(training_seconds(found))}, without validation"))
    return table(("", ""), rows) if rows else ""


def repeat(found: Found) -> str:
    revision = (found.about.get("git_revision") or "").removesuffix("-dirty")
    lines = [f"git checkout {shlex.quote(revision)}"] if revision else []
    lines.append(command(found))
    text = escape("\n".join(lines))
    use = code("dualrel", f"--workdir={found.workdir}", "--mode=predict", "--config.predict.input=VOLUME")
    return f"<pre>{text}</pre>" + paragraph(
        "In this folder it continues, or finds its work done; name another <code>--workdir</code> to train anew. Other "
        f"devices or versions change the last digits. To segment a volume with this run: {use}"
    )


# ---------------------------------------------------------------------------------------------------------------------
# Config
# ---------------------------------------------------------------------------------------------------------------------


def method_name(config: ConfigDict) -> str:
    return METHOD_TITLES.get(config.method.name, config.method.name)


def data_name(config: ConfigDict) -> str:
    return ", ".join(Path(path.strip()).name for path in config.data.image.split(",")) or config.data.name


def command(found: Found) -> str:
    """The training as a command line for a shell, one flag a line."""
    config = found.config
    words = [f"--config=configs/{config.method.name}.py:{config.data.name},{config.data.labelled}"]
    words += [f"--workdir={found.workdir}", f"--config.size={config.size}", f"--config.seed={config.seed}"]
    for key, value, _ in config_lib.changes(config):
        words.append(f"--config.{key}={tuple(value) if isinstance(value, list) else value}")
    return " \\\n    ".join(["dualrel", *map(shlex.quote, words)])


def training_seconds(found: Found) -> float:
    """Of all steps together: each record's seconds a step, times the steps since the one before."""
    steps, seconds = found.series("speed/seconds_per_step")
    return float(np.dot(np.diff([0, *steps]), seconds)) if steps else 0.0


def number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def day(when: datetime) -> str:
    return f"{when.day} {when:%B %Y}"
