"""The computations behind the buttons, in memory: segmentation and instances. JAX is imported when it is used."""

import math
import os
from collections.abc import Generator
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.io.volume import Volume, intensity_range
from dualrel_jax.data.io.writers import Voxel
from dualrel_jax.errors import InputError

Steps = Generator[tuple[int, int], None, tuple[np.ndarray, float]]  # yields (finished slices, number of slices)


def segment(folder: Path, volume: Volume) -> Steps:
    """Segments `volume` with the run in `folder`; -> (probability `z y x` uint8, 255 means 1; threshold).

    Head and threshold are chosen as in `predict`. A volume of unknown voxel size is assumed to have the pixel size of
    the training.
    """
    yield 0, len(volume)
    # Without this JAX takes most of a GPU's memory while napari runs, and a training in another process has none.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from dualrel_jax.inference import z_smoothing
    from dualrel_jax.inference.choice import choose
    from dualrel_jax.inference.run import load_run
    from dualrel_jax.inference.threshold import of_share
    from dualrel_jax.inference.volume_predictor import VolumePredictor
    from dualrel_jax.utils import sharding

    sharding.cache_compilations()
    run = load_run(folder)
    predict, choice = run.config.predict, choose(run, [volume], run.config.predict.z_smoothing_nm)
    print(choice.explanation)
    grey = intensity_range(volume)
    model = VolumePredictor(choice.predictor, run.variables, grey, run.pixel_nm, predict.tile, predict.overlap, side=0)
    zs, sigma = range(len(volume)), z_smoothing.smoothing_slices(volume, predict.z_smoothing_nm)
    slices = model.probability_slices(volume)
    if sigma:
        slices = z_smoothing.smoothed(slices, zs, zs, sigma)
    probability = np.zeros(volume.shape, np.uint8)
    for z, section in zip(zs, slices, strict=True):
        if section is not None:
            probability[z] = np.rint(section * 255)
        yield z + 1, len(volume)
    return probability, choice.threshold or of_share([probability / 255], predict.foreground_fraction)


def threshold_probability(probability: np.ndarray, threshold: float) -> np.ndarray:
    """Mask `z y x` uint8: 1 where the probability, 0..255, is above `threshold`, 0..1."""
    from dualrel_jax.instances import segment

    return segment.mask_above(Volume.from_array(probability), threshold).view(np.uint8)


def label_and_measure(
    mask: np.ndarray, probability: np.ndarray | None, voxel_nm: Voxel | None, settings: ConfigDict
) -> tuple[np.ndarray, list[dict]]:
    """Labels the instances of a bool mask and measures them; -> (labels `z y x`, one row of measures per instance).

    The rows lack mean_probability if `probability` is None. See `instances.segment` and `instances.morphometry`.

    Raises:
        InputError: the voxel size is unknown.
    """
    from dualrel_jax.instances import morphometry, segment

    if voxel_nm is None or math.isnan(voxel_nm[0]):
        raise InputError(
            "Volumes and lengths need the voxel size, which the image lacks; fill in Voxel size as z,y,x in nm, "
            "such as 30,8,8."
        )
    labels = segment.label_instances(mask, voxel_nm, settings)
    rows = morphometry.measure(labels, Volume.from_array(mask if probability is None else probability), voxel_nm)
    if probability is None:
        for row in rows:
            del row["mean_probability"]
    return labels, rows
