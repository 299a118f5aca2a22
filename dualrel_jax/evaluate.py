"""Scores a model, or a mask in a file, on labelled slices, at the pixel size of their own labels."""

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.config.rules import side_multiple
from dualrel_jax.data.datasets.registry import Part, load_test
from dualrel_jax.data.io.volume import split_inner
from dualrel_jax.data.pipeline import augment
from dualrel_jax.inference.choice import choose_for_parts
from dualrel_jax.inference.mask_file_scoring import open_mask, score_instances, score_mask
from dualrel_jax.inference.run import Run, load_run
from dualrel_jax.inference.scoring import score
from dualrel_jax.inference.trained_slices import explain, trained_on
from dualrel_jax.metrics import instances, segmentation
from dualrel_jax.utils import lock, sharding
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.visualization import overlays, prototype_maps

PICTURES = {"masks.png": "outlines over EM", "prototypes.png": "what each prototype sees", "curves.png": "the training"}


def evaluate(workdir: str | Path, config: ConfigDict | None = None) -> dict[str, float]:
    """Scores the run in `workdir` on its test set; writes metrics.json, slices.csv, summary.txt and pictures.

    With `config.data.test_mask` it scores that mask instead, and writes the same into `scores_of_masks/<its name>`.

    Args:
        workdir: folder of a finished run.
        config: that of the run (default), or a copy with other `data.test_...` or `predict`.

    Returns:
        Name to value: `jac_pooled`, `dsc_pooled` and others as fractions; of a run the threshold and the prediction
        head, of a numbered mask `instances`, the scores of `metrics.instances.compare`.

    Raises:
        InputError: there is no run, or no labelled slice to score on.
    """
    run = load_run(workdir, config)
    return evaluate_mask(run) if run.config.data.test_mask else evaluate_run(run)


def evaluate_run(run: Run) -> dict[str, float]:
    """Scores an open run as `evaluate` does. A training that goes on in its folder is not disturbed."""
    is_first = sharding.is_first_host()
    with lock.file_writer(run.workdir / "metrics.json", "--workdir") if is_first else contextlib.nullcontext():
        return _evaluate_run(run)


def _evaluate_run(run: Run) -> dict[str, float]:
    parts = run.test_parts
    learned = trained_on(run, parts)
    choice = choose_for_parts(run, parts)
    scores, samples = score(choice.predictor, run.variables, parts, choice.threshold)
    about = {
        "data": [part.image.path for part in parts],
        "part": [part.name for part in parts],
        "step": run.step,
        "weights": run.config.predict.weights,
        "prediction_head": choice.prediction_head,
        "threshold": choice.threshold,
        "slices_trained_on": sum(len(zs) for _, zs in learned),
    }
    summary = {**scores.summary(), **about}
    if sharding.is_first_host():
        segmentation.write_metrics(run.workdir, summary, scores.records)
        overlays.mask_sheet(samples, run.workdir / "pictures" / "masks.png", run.pixel_nm)
        write_activations(run, parts[0])
        text = summary_text(summary, run.workdir, explain(learned))
        write_text(run.workdir / "summary.txt", text)
        print(text, end="")
    return summary


def evaluate_mask(run: Run) -> dict:
    """Scores the mask `config.data.test_mask`, of any program, as `evaluate` does."""
    data = run.config.data
    data = config_lib.changed(data, {"test_image": data.test_image or data.test_mask})  # to draw the outlines on
    parts = (load_test(data, None),) if data.test_label else run.test_parts
    parts = [dataclasses.replace(part, pixel_nm=None) for part in parts]
    mask = open_mask(data.test_mask, parts)
    learned, notes = trained_on(run, parts), []
    scores, samples = score_mask(mask, parts)
    summary = {
        **scores.summary(),
        "mask": mask.path,
        "data": [part.image.path for part in parts],
        "part": [part.name for part in parts],
        "slices_trained_on": sum(len(zs) for _, zs in learned),
    }
    if numbered := score_instances(mask, parts):
        summary["instances"], notes = numbered, [instances.describe(numbered)]
    folder = run.workdir / "scores_of_masks" / Path(split_inner(data.test_mask)[0].name).stem
    segmentation.write_metrics(folder, summary, scores.records)
    voxel_nm = parts[0].image.voxel_nm
    overlays.mask_sheet(samples, folder / "pictures" / "masks.png", voxel_nm and voxel_nm[1:])
    text = summary_text(summary, folder, [*notes, *explain(learned)])
    write_text(folder / "summary.txt", text)
    print(text, end="")
    return summary


def summary_text(summary: dict, workdir: Path, notes: Sequence[str] = ()) -> str:
    """The scores in sentences, `notes` on what they are worth, and the paths of what was written."""
    keys = ("recall_pooled", "precision_pooled", "jac_pooled")
    found, right, overlap = ("none" if np.isnan(summary[key]) else f"{summary[key]:.0%}" for key in keys)
    compared = f"{summary['mask']}, compared" if "mask" in summary else "Compared"
    lines = [
        f"{compared} with the labels of {summary['slices']} slices ({', '.join(summary['part'])}):",
        f"  {found} of the mitochondrion area is found, and {right} of what is found is right;",
        f"  overlap (JAC) {overlap}, DSC {summary['dsc_pooled']:.3f}.",
        *(f"  {note}" for note in notes),
        f"  Scores:   {workdir}/metrics.json, and one row per slice in {workdir}/slices.csv",
    ]
    pictures = [f"{name} ({what})" for name, what in PICTURES.items() if (workdir / "pictures" / name).exists()]
    if pictures:
        lines.append(f"  Pictures: {workdir}/pictures/{', '.join(pictures)}")
    return "\n".join(lines) + "\n"


def write_activations(run: Run, part: Part) -> None:
    """Prototype activation maps of the middle labelled slice, for methods that have prototypes."""
    if run.activations is None:
        return
    image = part.image_at(part.labelled_zs[len(part.labelled_zs) // 2])
    multiple = side_multiple(run.config.model)
    image = np.pad(image, [(0, max(multiple - size, 0)) for size in image.shape], "symmetric")
    y, x = (min(run.config.predict.tile, size) // multiple * multiple for size in image.shape)
    image = image[:y, :x]
    variables = jax.device_get(run.variables)  # whole on this host: the others do not take part
    found = jax.device_get(run.activations(variables, augment.to_float(image[None])))
    maps = found["maps"][0]
    is_foreground = np.arange(len(maps)) < len(maps) // 2
    prototype_maps.activation_maps(
        image, maps, is_foreground, found["reliability"][0], run.workdir / "pictures" / "prototypes.png"
    )
