"""Writes the probabilities of a region, block by block."""

from collections.abc import Iterator

import numpy as np

from dualrel_jax.data.io.writers import VolumeWriter
from dualrel_jax.inference.region_predictor import RegionPredictor
from dualrel_jax.inference.resume import PredictionProgress
from dualrel_jax.inference.volume_predictor import ProbabilitySlice, to_bytes
from dualrel_jax.inference.windows import Window, slabs
from dualrel_jax.utils.boxes import Box, within


def write_region(
    task: RegionPredictor,
    writer: VolumeWriter,
    progress: PredictionProgress,
    *,
    zs: slice,
    whole: Box,
) -> None:
    """Window by window, and in each from the first slice to the last.

    Args:
        task: its region is what is written, or more slices than that.
        writer: of the probabilities of `whole`, uint8 0..255.
        progress: counts slices and blocks.
        zs: the slices to write.
        whole: the region that the output is of.
    """
    for window in task.windows:
        layers = progress.remaining(slabs(zs, writer.chunk[0]))
        if not layers:
            continue
        slices = task.probability_slices(window, range(layers[0].start, zs.stop))
        for layer in layers:
            block = _block(slices, layer, window, progress)
            writer.write_block(tuple(part.start for part in within((layer, *window.inner), whole)), block)
            progress.finished()


def _block(
    slices: Iterator[ProbabilitySlice], layer: slice, window: Window, progress: PredictionProgress
) -> np.ndarray:
    """The next slices as uint8 z y x, 0..255."""
    block = np.empty((layer.stop - layer.start, *(part.stop - part.start for part in window.inner)), np.uint8)
    for slice_yx in block:
        slice_yx[...] = to_bytes(next(slices), slice_yx.shape)
        progress.step()
    return block
