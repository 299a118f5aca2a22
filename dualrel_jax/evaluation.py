"""Scores a model on labelled slices, at the pixel size of their own labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import metrics, pictures
from dualrel_jax.data import resample
from dualrel_jax.data.datasets import Part
from dualrel_jax.methods.base import Variables
from dualrel_jax.prediction import Predictor
from dualrel_jax.run import Run, load_run


def score(
    predictor: Predictor,
    variables: Variables,
    parts: Sequence[Part],
    threshold: float,
    max_slices: int = 0,
    show: int = 4,
) -> tuple[metrics.Scores, list]:
    """Scores of the labelled slices of `parts`, and `show` of them as pictures (image, mask, label, title).

    max_slices spreads that many slices evenly over z; 0: all. Prediction happens at the training pixel size, the
    comparison at the label's own.
    """
    slices = [(part, z) for part in parts for z in part.labelled_zs]
    if 0 < max_slices < len(slices):
        slices = [slices[i] for i in np.linspace(0, len(slices) - 1, max_slices).round().astype(int)]
    shown = set(np.linspace(0, len(slices) - 1, min(show, len(slices))).round().astype(int))
    scores, samples = metrics.Scores(threshold), []
    for i, (part, z) in enumerate(slices):
        image = part.image_at(z)
        probability = predictor(variables, image)
        native = part.native_label_at(z)
        record = scores.update(z, resample.resample_probability(probability, native.shape), native)
        if i in shown:
            title = f"z = {z}, JAC {record['jac']:.2f}"
            samples.append((image, probability > threshold, part.label_at(z) == 1, title))
    return scores, samples


def evaluate(workdir: str | Path, config: ConfigDict | None = None) -> dict[str, float]:
    """Scores the run in `workdir` on its test set; writes metrics.json, slices.csv and pictures; -> the summary."""
    return evaluate_run(load_run(workdir, config))


def evaluate_run(run: Run) -> dict[str, float]:
    parts = run.test_parts()
    scores, samples = score(run.predictor, run.variables, parts, run.config.predict.threshold)
    about = {
        "data": [part.image.path for part in parts],
        "part": [part.name for part in parts],
        "step": run.step,
        "weights": run.config.predict.weights,
    }
    summary = {**scores.summary(), **about}
    metrics.write_metrics(run.workdir, summary, scores.records)
    pictures.mask_sheet(samples, run.workdir / "pictures" / "masks.png")
    write_activations(run, parts[0])
    return summary


def write_activations(run: Run, part: Part) -> None:
    """Prototype activation maps of the middle labelled slice, for methods that have prototypes."""
    import jax

    from dualrel_jax.data import augment

    if not hasattr(run.method, "activations"):
        return
    image = part.image_at(part.labelled_zs[len(part.labelled_zs) // 2])
    tile = run.config.predict.tile
    multiple = 2 ** (run.config.model.depth - 1)
    image = image[
        : min(tile, image.shape[0]) // multiple * multiple, : min(tile, image.shape[1]) // multiple * multiple
    ]
    found = jax.device_get(jax.jit(run.method.activations)(run.variables, augment.to_float(image[None])))
    maps = found["maps"][0]
    is_foreground = np.arange(len(maps)) < len(maps) // 2
    pictures.activation_maps(
        image, maps, is_foreground, found["reliability"][0], run.workdir / "pictures" / "prototypes.png"
    )
