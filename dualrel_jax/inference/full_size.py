"""Probabilities at the voxel size of level 0 of a pyramid, of which a coarser level is predicted."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage

from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.inference.region_predictor import RegionPredictor
from dualrel_jax.inference.volume_predictor import ProbabilitySlice
from dualrel_jax.inference.windows import Window, windows
from dualrel_jax.utils.boxes import Box


def is_enlarged(volume: Volume, settings: ConfigDict) -> bool:
    """Whether the outputs have smaller voxels than the volume that is predicted."""
    return settings.full_size and volume.level is not None and volume.level.index > 0


def output_volume(volume: Volume, settings: ConfigDict) -> Volume:
    """The volume whose voxels the outputs have: `volume`, or level 0 of its pyramid with the voxel size it has there.

    Raises:
        InputError: level 0 cannot be opened.
    """
    if not is_enlarged(volume, settings):
        return volume
    finest = open_volume(volume.container, verbose=False)
    if volume.voxel_nm == volume.level.voxel_nm:
        return finest
    return dataclasses.replace(finest, voxel_nm=volume.full_voxel_nm)  # that of the file may be overridden


def predicted_region(volume: Volume, region: Box, settings: ConfigDict) -> Box:
    """The voxels of `volume` that the probabilities of `region`, in voxels of the outputs, come from."""
    if not is_enlarged(volume, settings):
        return region
    return tuple(
        slice(int(at[0]), math.ceil(at[-1]) + 1) for at in (_positions(volume, axis, region[axis]) for axis in range(3))
    )


def for_outputs(predictor: RegionPredictor, region: Box, settings: ConfigDict) -> "RegionPredictor | FullSizeRegion":
    """What gives the probabilities of `region`, in voxels of the outputs, from those of its `predicted_region`."""
    return FullSizeRegion(predictor, region) if is_enlarged(predictor.volume, settings) else predictor


def _positions(volume: Volume, axis: int, part: slice | range) -> np.ndarray:
    """Where the centres of voxels of level 0 lie among those of a level; beyond its outer ones: on these."""
    level = volume.level
    return ((np.arange(part.start, part.stop) - level.shift[axis]) / level.factors[axis]).clip(0, level.shape[axis] - 1)


@dataclass(frozen=True)
class FullSizeRegion:
    """Probability slices of a region of level 0: linear between the centres of a level's voxels, in all directions.

    Attributes:
        predictor: of the level, at least of the `predicted_region`.
        region: z y x, in voxels of level 0.
    """

    predictor: RegionPredictor
    region: Box

    @functools.cached_property
    def windows(self) -> list[Window]:
        """Of as many voxels of level 0 as those of a prediction have of their own."""
        volume, side = self.predictor.volume, self.predictor.model.side
        return list(windows(self.region[1:], volume.level.full_shape[1:], side, (0, 0), (0, 0)))

    def slice_count(self) -> int:
        """Slices, of all windows and planes, that are predicted or interpolated."""
        z = self.region[0]
        return self.predictor.plane_count() + len(self.windows) * (z.stop - z.start)

    def probability_slices(self, window: Window, zs: range) -> Iterator[ProbabilitySlice]:
        """Of the window, at each of `zs`; None where there is nothing to see in the level's slices around it."""
        volume = self.predictor.volume
        positions = [_positions(volume, axis, part) for axis, part in enumerate((zs, *window.inner))]
        z, *yx = (slice(int(at[0]), math.ceil(at[-1]) + 1) for at in positions)
        (seen,) = dataclasses.replace(self.predictor.model, side=0).windows(volume, tuple(yx))
        slices = self.predictor.probability_slices(seen, range(z.start, z.stop))
        larger = (self._enlarged(probability, window, seen) for probability in slices)
        coming = zip(range(z.start, z.stop), larger, strict=True)
        below = above = next(coming)
        for at in positions[0]:
            while above[0] < at:
                below, above = above, next(coming)
            yield _between(below[1], above[1], at - below[0])

    def _enlarged(self, probability: ProbabilitySlice, window: Window, seen: Window) -> ProbabilitySlice:
        """A slice of the level, its window `seen`, at the voxels y x of level 0 in `window`."""
        if probability is None:
            return None
        level = self.predictor.volume.level
        axes = zip(window.inner, level.shift[1:], level.factors[1:], seen.inner, strict=True)
        corner = [(part.start - shift) / factor - own.start for part, shift, factor, own in axes]
        steps, shape = 1 / np.array(level.factors[1:]), [part.stop - part.start for part in window.inner]
        return ndimage.affine_transform(probability, steps, corner, tuple(shape), order=1, mode="nearest")


def _between(below: ProbabilitySlice, above: ProbabilitySlice, part: float) -> ProbabilitySlice:
    """The slice that lies `part` (0 to 1) of the way from `below` to `above`; None counts as 0, two None are None."""
    if below is above:
        return below
    weighted = [weight * each for weight, each in ((1 - part, below), (part, above)) if each is not None]
    return np.sum(weighted, axis=0, dtype=np.float32)
