"""Scores of a model on labelled slices, at the pixel size of their own labels."""

from collections.abc import Sequence

from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.io import resample
from dualrel_jax.inference.slice_predictor import Predictor
from dualrel_jax.methods.base import Variables
from dualrel_jax.metrics import segmentation
from dualrel_jax.utils.ranges import evenly_spaced


def score(
    predictor: Predictor,
    variables: Variables,
    parts: Sequence[Part],
    threshold: float,
    *,
    max_slices: int = 0,
    show: int = 4,
) -> tuple[segmentation.Scores, list]:
    """Scores of the labelled slices of `parts`, and `show` of them as pictures (image, mask, label, title).

    max_slices spreads that many slices evenly over z; 0: all. Prediction happens at the training pixel size, the
    comparison at the label's own.
    """
    slices = [(part, z) for part in parts for z in part.labelled_zs]
    slices = evenly_spaced(slices, max_slices if max_slices > 0 else len(slices))
    shown = evenly_spaced(range(len(slices)), show)
    scores, samples = segmentation.Scores(threshold), []
    probabilities = predictor.each(variables, (part.image_at(z) for part, z in slices))
    for i, ((part, z), probability) in enumerate(zip(slices, probabilities, strict=True)):
        native = part.native_label_at(z)
        record = scores.update(z, resample.resample_probability(probability, native.shape), native)
        if i in shown:
            title = f"z = {z}, JAC {record['jac']:.2f}"
            samples.append((part.image_at(z), probability > threshold, part.label_at(z) == 1, title))
    return scores, samples
