"""A finished run on one page: `dualrel report RUN` writes report.html, to read, send and print."""

import json
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.constants import BEST_BY, METHOD_TITLES
from dualrel_jax.errors import InputError
from dualrel_jax.inference.report_volume import volume_section
from dualrel_jax.inference.run import load_run
from dualrel_jax.inference.run_files import RunFiles, read_run_files
from dualrel_jax.utils import lock
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.ranges import consecutive_runs, evenly_spaced
from dualrel_jax.utils.text import format_duration
from dualrel_jax.visualization import overlays, plots
from dualrel_jax.visualization.report_page import Details, Figure, Section, embed_picture, render
from dualrel_jax.visualization.svg_charts import line_chart, strip_chart

DRAWN_SLICES = 4  # from the worst to the best
SCORES = {  # key of metrics.json -> name, meaning
    "jac_pooled": ("JAC", "intersection over union of predicted and true area (Jaccard index); 1 is perfect"),
    "dsc_pooled": ("DSC", "twice the intersection over the sum of both areas (Dice coefficient); 1 is perfect"),
    "precision_pooled": ("Precision", "fraction of the predicted area that is mitochondrion"),
    "recall_pooled": ("Recall", "fraction of the true area that is predicted"),
    "jac_per_slice_mean": ("JAC, mean of slices", "every slice has the same weight, however large its mitochondria"),
    "dsc_per_slice_mean": ("DSC, mean of slices", "likewise"),
    "confusion_density": ("Confusion density", "mean over pixels of one minus the probability of the true class"),
}
PROTOTYPES_CAPTION = (
    "Activation of each prototype over one slice. Orange frames: foreground prototypes (mitochondria); blue frames: "
    "background prototypes. Reliability is the weight of a prototype for this slice, with mean 1"
)
RELIABLE = {  # method.reliability -> what a high weight means
    "class": ": it is higher where the model expects more of the prototype's pixels to be of its own class.",
    "consistency": ": it is higher where two views of the slice give more similar prototypes.",
    "uniform": "; here all are equal.",
}


def write_report(workdir: str | Path, config: ConfigDict | None = None) -> Path:
    """Writes `workdir`/report.html, one file with everything in it; -> its path.

    Slices are segmented again, by `config` or the run's own, only if their pictures are older than the scores. What a
    run does not have is left out.

    Raises:
        InputError: `workdir` holds no run.
    """
    with lock.file_writer(Path(workdir) / "report.html", "--workdir"):
        return _write_report(read_run_files(Path(workdir)), config)


def _write_report(files: RunFiles, config: ConfigDict | None) -> Path:
    sections = {
        "scores": score_section(files),
        "slices": slice_section(files, config),
        "volume": volume_section(files.workdir),
        "training": training_section(files),
        "prototypes": prototype_section(files),
        "labels": label_section(files),
        "config": config_section(files.config),
        "machine": machine_section(files),
        "repeat": repeat_section(files),
    }
    is_finished = files.step >= files.planned_steps
    page = {
        "title": f"Mitochondria in {data_title(files.config)}, by {method_title(files.config)}",
        "summary": summarize_scores(files),
        "evaluate_command": "" if files.scores else shlex.join(["dualrel", "evaluate", str(files.workdir)]),
        "unfinished": None if is_finished else {"step": files.step, "steps": files.planned_steps},
        "facts": run_facts(files),
        "sections": {name: section for name, section in sections.items() if section},
        "predict_command": shlex.join(["dualrel", "predict", str(files.workdir), "VOLUME"]),
        "date": format_date(datetime.now()),
    }
    path = files.workdir / "report.html"
    write_text(path, render(page))
    print(f"Report: {path}")
    return path


# ---------------------------------------------------------------------------------------------------------------------
# Top of the page
# ---------------------------------------------------------------------------------------------------------------------


def run_facts(files: RunFiles) -> dict[str, str]:
    config, facts = files.config, {}
    facts["Method"] = method_title(config)
    facts["Data"] = data_title(config)
    if files.partition:
        labelled, unlabelled = files.partition.labelled, files.partition.unlabelled
        facts["Labels"] = f"{len(labelled)} of {len(set(labelled + unlabelled))} slices"
    if files.machine.get("pixel_nm"):
        facts["Training pixel size"] = f"{' × '.join(f'{size:g}' for size in files.machine['pixel_nm'])} nm"
    facts["Training"] = f"{files.step} steps" if files.step else "not begun"
    if files.training_seconds:
        facts["Training"] += f", {format_duration(files.training_seconds)}"
    newest = next(path for name in ("metrics.jsonl", "config.json") if (path := files.workdir / name).exists())
    facts["Date"] = format_date(datetime.fromtimestamp(newest.stat().st_mtime))
    return facts


def summarize_scores(files: RunFiles) -> str:
    """summary.txt without its list of files; empty for a run that was not scored."""
    summary = files.workdir / "summary.txt"
    if not files.scores:
        return ""
    if summary.exists():
        return summary.read_text(encoding="utf-8").partition("\n  Scores:")[0]
    return f"Overlap (JAC) {format_score(files.scores.get('jac_pooled'))} on {files.scores.get('slices')} slices."


# ---------------------------------------------------------------------------------------------------------------------
# Sections: None where there is nothing to show
# ---------------------------------------------------------------------------------------------------------------------


def score_section(files: RunFiles) -> Section | None:
    scores = files.scores
    rows = [(name, format_score(scores[key]), meaning) for key, (name, meaning) in SCORES.items() if key in scores]
    if not rows:
        return None
    text = f"{scores['slices']} labelled slices of {', '.join(scores['part'])}"
    if empty := scores["slices_without_foreground"]:
        text += f", {empty} of them without mitochondria in label and prediction (their JAC is undefined)"
    text += f"; {scores['weights']} weights of step {scores['step']}."
    return Section("Scores", text, ("Score", "Value", "Meaning"), rows, figures=jac_chart(files))


def jac_chart(files: RunFiles) -> list[Figure]:
    """JAC along z; nothing for fewer than two slices that have one."""
    rows = [row for row in files.slices if row["jac"] is not None]
    if len(rows) < 2:
        return []
    name, z, jac = ", ".join(files.scores["part"]), [row["z"] for row in rows], [row["jac"] for row in rows]
    worst, best = (choose(rows, key=lambda row: row["jac"]) for choose in (min, max))
    caption = (
        f" of {name}: lowest {worst['jac']:.2f} (z = {worst['z']}), highest {best['jac']:.2f} (z = {best['z']}); "
        f"dashed: mean {np.mean(jac):.2f}."
    )
    chart = line_chart(z, jac, f"JAC of each slice of {name}", x_label="z", limits=(0, 1), level=np.mean(jac))
    return [Figure("JAC of each slice", caption, chart)]


def slice_section(files: RunFiles, config: ConfigDict | None) -> Section | None:
    """Outlines over EM, from the worst to the best slice; where that cannot be, those that the run drew itself."""
    jac = {i: row["jac"] for i, row in enumerate(files.slices) if row["jac"] is not None}
    folder = files.workdir / "pictures"
    if not jac:
        drawn = sorted(folder.glob("validation_*.png"))
        if not drawn:
            return None
        caption = f"Validation slices at step {int(drawn[-1].stem[-6:])}."
        return Section("Slices", figures=[outline_figure(drawn[-1], "", caption)], style="wide")
    order = sorted(jac, key=jac.get)
    ranks = evenly_spaced(range(len(order)), DRAWN_SLICES)
    try:
        paths = draw_slices(files, [order[rank] for rank in ranks], config)
    except InputError as error:
        drawn = folder / "masks.png"
        if not drawn.exists():
            return None
        caption = f"Slices evenly spaced in z. The worst and the best could not be drawn: {error}"
        return Section("Slices", figures=[outline_figure(drawn, "", caption)], style="wide")
    figures = []
    for path, rank in zip(paths, ranks, strict=True):
        row = files.slices[order[rank]]
        title = {0: "Worst", len(order) - 1: "Best"}.get(rank, f"Rank {rank + 1} of {len(order)}")
        scored = f"z = {row['z']}, JAC {row['jac']:.2f}"
        figures.append(outline_figure(path, title, f": {scored}.", f", {scored}"))
    text = "From the lowest to the highest JAC, evenly spaced in rank. Orange: predicted; blue: true."
    return Section("Slices", text, figures=figures, style="pictures")


def outline_figure(path: Path, title: str, caption: str, slice_text: str = "") -> Figure:
    alt = f"Outlines of predicted (orange) and true (blue) mitochondria over EM{slice_text}"
    return embed_picture(path, alt, title, caption)


def draw_slices(files: RunFiles, chosen: Sequence[int], config: ConfigDict | None) -> list[Path]:
    """A picture of each chosen row of slices.csv, drawn again if it is older than the scores.

    Raises:
        InputError: the run cannot be loaded, or its scores are those of other data or of another step.
    """
    paths = [files.workdir / "pictures" / f"slice_{i:04d}.png" for i in chosen]
    if all(is_newer(path, files.workdir / "slices.csv") for path in paths):
        return paths
    run = load_run(files.workdir, config)
    tested = [(part, z) for part in run.test_parts for z in part.labelled_zs]
    now = [part.image.path for part in run.test_parts], run.step, run.config.predict.weights
    *scored, head, threshold = (
        files.scores.get(key) for key in ("data", "step", "weights", "prediction_head", "threshold")
    )
    if list(now) != scored or None in (head, threshold) or [z for _, z in tested] != [row["z"] for row in files.slices]:
        raise InputError("metrics.json holds scores of other data or another step; score this run by dualrel evaluate.")
    predictor = run.predictor_of(head)
    for i, path in zip(chosen, paths, strict=True):
        part, z = tested[i]
        image = part.image_at(z)
        mask = predictor(run.variables, image) > threshold
        overlays.mask_outlines(image, mask, part.label_at(z), path, pixel_nm=run.pixel_nm)
    return paths


def is_newer(path: Path, source: Path) -> bool:
    return path.exists() and path.stat().st_mtime >= source.stat().st_mtime


def training_section(files: RunFiles) -> Section | None:
    if not files.records:
        return None
    figures = []
    names = sorted({name for record in files.records for name in record})
    weights = [name for name in names if name.startswith("train/") and name.endswith("_weight")]
    scored = next((name for name in (f"validation/{score}" for score in BEST_BY) if name in names), "")
    for name in ("train/loss", scored, *weights):
        steps, values = files.series(name)
        if not steps:
            continue
        title, note = name.partition("/")[2].replace("_", " ").capitalize(), ""
        limits = min(0, *values), max(values)
        if name == scored:
            best = int(np.argmax(values))
            title, limits = "JAC on validation slices", (0, 1)
            note = f", best {values[best]:.3f} at step {steps[best]}"
        figures.append(Figure(title, f" by step{note}.", line_chart(steps, values, title, limits=limits)))
    all_curves = files.workdir / "pictures" / "curves.png"
    if not is_newer(all_curves, files.workdir / "metrics.jsonl"):
        plots.training_curves(files.records, all_curves)
    details = Details("All curves", figure=embed_picture(all_curves, "Every logged number by step"))
    return Section("Training", figures=figures, details=details)


def prototype_section(files: RunFiles) -> Section | None:
    path = files.workdir / "pictures" / "prototypes.png"
    if not path.exists():
        return None
    alt = "Activation of each prototype over one slice, with its reliability"
    caption = PROTOTYPES_CAPTION + RELIABLE[files.config.method.reliability]
    return Section("Prototypes", figures=[embed_picture(path, alt, caption=caption)], style="wide")


def label_section(files: RunFiles) -> Section | None:
    """The slices whose labels were used, one strip per training volume."""
    if not files.partition:
        return None
    figures = []
    labelled, unlabelled = files.partition.labelled, files.partition.unlabelled
    for name in dict.fromkeys(part for part, _ in labelled + unlabelled):
        used, unused = ([z for part, z in group if part == name] for group in (labelled, unlabelled))
        ranges = ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in consecutive_runs(used))
        text = f"Labels of {len(used)} of {len(set(used + unused))} slices of {name} were used"
        text += f": z = {ranges}." if used else "."
        figures.append(Figure(caption=text, chart=strip_chart(used, unused, text)))
    return Section("Labelled slices", figures=figures)


def config_section(config: ConfigDict) -> Section:
    rows = [(key, json.dumps(value), json.dumps(default)) for key, value, default in config_lib.changes(config)]
    details = Details("The full config", code=json.dumps(config.to_dict(), indent=2))
    if not rows:
        return Section("Config", "Every field has its default value.", details=details)
    return Section("Config", columns=("Field", "Value", "Default"), rows=rows, details=details)


def machine_section(files: RunFiles) -> Section | None:
    rows, machine = [], files.machine
    if machine:
        rows.append(("Devices", f"{len(machine['devices'])}: {', '.join(machine['devices'])}"))
        if machine["git_revision"]:
            revision, dirty, _ = machine["git_revision"].partition("-dirty")
            rows.append(("Git revision", revision[:12] + (", with changes that were not committed" if dirty else "")))
        rows.append(("Python", machine["python"]))
        rows += machine["versions"].items()
    steps, seconds = files.series("speed/seconds_per_step")
    if steps:
        rows.append(("Time per step", f"{np.median(seconds):.3g} s (median)"))
        rows.append(("Time of all steps", f"{format_duration(files.training_seconds)} with compiling, no validation"))
    return Section("Software and time", rows=rows) if rows else None


def repeat_section(files: RunFiles) -> Section:
    revision = (files.machine.get("git_revision") or "").removesuffix("-dirty")
    lines = [f"git checkout {shlex.quote(revision)}"] if revision else []
    return Section("How to repeat this", code="\n".join([*lines, files.training_command]))


# ---------------------------------------------------------------------------------------------------------------------
# Text
# ---------------------------------------------------------------------------------------------------------------------


def method_title(config: ConfigDict) -> str:
    return METHOD_TITLES.get(config.method.name, config.method.name)


def data_title(config: ConfigDict) -> str:
    return ", ".join(Path(path.strip()).name for path in config.data.image.split(",")) or config.data.name


def format_score(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def format_date(when: datetime) -> str:
    return f"{when.day} {when:%B %Y}"
