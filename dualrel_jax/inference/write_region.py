"""Writes the mask and the probability of a region, block by block."""

from collections.abc import Iterator, Mapping

import numpy as np

from dualrel_jax.data.io.writers import VolumeWriter
from dualrel_jax.inference.region_predictor import RegionPredictor
from dualrel_jax.inference.resume import PredictionProgress
from dualrel_jax.inference.volume_predictor import ProbabilitySlice
from dualrel_jax.inference.windows import Region, Window, relative, slabs


def write_region(
    task: RegionPredictor,
    writers: Mapping[str, VolumeWriter],
    progress: PredictionProgress,
    *,
    zs: slice,
    whole: Region,
    threshold: float,
) -> None:
    """Window by window, and in each from the first slice to the last.

    Args:
        task: its region is what is written, or more slices than that.
        writers: of the mask and, if asked for, of the probability of `whole`.
        progress: counts slices and blocks.
        zs: the slices to write.
        whole: the region that the outputs are of.
        threshold: probability above which a voxel is mitochondrion.
    """
    for window in task.windows:
        layers = progress.remaining(slabs(zs, writers["mask"].chunk[0]))
        if not layers:
            continue
        slices = task.probability_slices(window, range(layers[0].start, zs.stop))
        for layer in layers:
            blocks = _block(slices, layer, window, threshold, progress)
            corner = tuple(part.start for part in relative((layer, *window.inner), whole))
            for name, writer in writers.items():
                writer.write_block(corner, blocks[name])
            progress.finished(np.count_nonzero(blocks["mask"]))


def _block(
    slices: Iterator[ProbabilitySlice], layer: slice, window: Window, threshold: float, progress: PredictionProgress
) -> dict[str, np.ndarray]:
    """The next slices as mask (0 / 255) and probability (0..255), uint8 z y x."""
    shape = (layer.stop - layer.start, *(part.stop - part.start for part in window.inner))
    blocks = {name: np.zeros(shape, np.uint8) for name in ("mask", "probability")}
    for z in range(len(blocks["mask"])):
        probability = next(slices)
        if probability is not None:
            blocks["mask"][z] = np.where(probability > threshold, 255, 0)
            blocks["probability"][z] = np.rint(probability * 255)
        progress.step()
    return blocks
