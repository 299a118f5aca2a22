"""Scores of masks of slices averaged along z as `predict` does, above the threshold calibrated on such averages."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.inference import orthogonal_planes, z_smoothing
from dualrel_jax.inference.choice import choose
from dualrel_jax.inference.region_predictor import RegionPredictor
from dualrel_jax.inference.resume import PredictionProgress
from dualrel_jax.inference.run import Run
from dualrel_jax.inference.unsure_parts import without_unsure_parts
from dualrel_jax.inference.volume_predictor import VolumePredictor, to_bytes
from dualrel_jax.metrics import segmentation


def score_masks(run: Run, parts: Sequence[Part], *, all_planes: bool = False) -> tuple[segmentation.Scores, str]:
    """Scores of the labelled slices of `parts`, at the pixel size of their labels, and the prediction head.

    Each part is predicted as `predict --region` would: slices around it along z and tissue beside it are read, and
    only the part itself is compared.

    Args:
        all_planes: planes along all three axes are averaged where `predict` would; else slices alone are predicted.
    """
    settings = run.config.predict
    images = [part.image for part in parts]
    choice = choose(run, images, settings.z_smoothing_nm, whole_masks=True, all_planes=all_planes)
    scores = segmentation.Scores(choice.threshold)
    for part in parts:
        labelled, zs = set(part.labelled_zs), range(part.labelled_zs[0], part.labelled_zs[-1] + 1)
        window = part.window or tuple(slice(0, size) for size in part.image.shape[1:])
        model = VolumePredictor(
            choice.predictor, run.variables, part.range, run.pixel_nm, settings.tile, settings.overlap, side=0
        )
        sigma = z_smoothing.smoothing_slices(part.image, settings.z_smoothing_nm)
        region = (slice(zs.start, zs.stop), *window)
        values = np.empty((len(zs), *(side.stop - side.start for side in window)), np.uint8)
        with tempfile.TemporaryDirectory() as folder:
            planes = None
            if choice.planes == "xyz":
                planes = orthogonal_planes.open_planes(Path(folder) / "planes", region)
                orthogonal_planes.predict_planes(model, part.image, region, planes, PredictionProgress(None, {}))
            task = RegionPredictor(model, part.image, region, sigma, planes)
            (whole,) = task.windows  # one: slices are predicted at once
            for slice_yx, probability in zip(values, task.probability_slices(whole, zs), strict=True):
                slice_yx[...] = to_bytes(probability, slice_yx.shape)
        sure = without_unsure_parts(values, choice.threshold, choice.unsure_margin)
        values[segmentation.above(values, choice.threshold) & ~sure] = 0
        for z, slice_yx in zip(zs, values, strict=True):
            if z in labelled:
                scores.update(z, slice_yx / np.float32(255), part.native_label_at(z))
    return scores, choice.prediction_head
