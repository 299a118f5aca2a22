"""Probabilities averaged over the planes along all three axes, for volumes of isotropic voxels."""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.errors import InputError
from dualrel_jax.inference.resume import PredictionProgress
from dualrel_jax.inference.volume_predictor import ProbabilitySlice, VolumePredictor
from dualrel_jax.inference.windows import Window, slabs
from dualrel_jax.inference.z_smoothing import knows_z
from dualrel_jax.utils.boxes import Box, within

_MOST_ANISOTROPIC = 1.5
_LEAST_DEPTH_NM = 500.0  # shallower volumes show too little of the tissue in planes across z
_LEAST_SPACING_NM = 10.0  # of tissue like the training's: the mean along z of finer slices is as good as all planes
_MOST_VOXELS = 2**31  # planes of larger TIFFs take longer to read, slice by slice, than to predict
_DEPTH = 32  # planes across z that are read at once


def check_isotropic(volume: Volume) -> None:
    """InputError where planes across z would not look like slices."""
    sizes = volume.voxel_nm
    if not knows_z(volume):
        raise InputError(
            f"config.predict.planes=xyz needs the voxel size, which {volume.path} does not say; set "
            "--config.predict.voxel_nm=z,y,x in nm, or leave planes at auto."
        )
    if _is_anisotropic(volume):
        raise InputError(
            f"config.predict.planes=xyz: {volume.path} has voxels of "
            f"{sizes[0]:g} x {sizes[1]:g} x {sizes[2]:g} nm; "
            f"expected sides that differ by at most {_MOST_ANISOTROPIC} times: leave planes at auto."
        )


def _is_anisotropic(volume: Volume) -> bool:
    return max(volume.voxel_nm) > _MOST_ANISOTROPIC * min(volume.voxel_nm)


def pays(volume: Volume, known: bool) -> bool:
    """Whether averages over all planes pay, by the voxels and the size of a volume.

    Args:
        known: it is like one whose labels the model learned from.
    """
    if not knows_z(volume) or _is_anisotropic(volume) or math.prod(volume.shape) > _MOST_VOXELS:
        return False
    depth_nm = min(n * nm for n, nm in zip(volume.shape, volume.voxel_nm, strict=True))
    return depth_nm >= _LEAST_DEPTH_NM and (not known or volume.voxel_nm[0] >= _LEAST_SPACING_NM)


def open_planes(path: Path, region: Box) -> np.ndarray:
    """A file for `plane z y x` uint8, mapped into memory: the probabilities of the xz and the yz planes."""
    shape = (2, *(part.stop - part.start for part in region))
    return np.memmap(path, np.uint8, "r+" if path.exists() else "w+", shape=shape)


def plane_count(model: VolumePredictor, volume: Volume, region: Box) -> int:
    """Planes, of all windows, that `predict_planes` predicts."""
    return sum((turn.along.stop - turn.along.start) * len(turn.windows) for turn in _turns(model, volume, region))


def predict_planes(
    model: VolumePredictor, volume: Volume, region: Box, planes: np.ndarray, progress: PredictionProgress
) -> None:
    """Fills `planes` with the probabilities, 0..255, of the region's xz and yz planes."""
    for turn, plane in zip(_turns(model, volume, region), planes, strict=True):
        for window in turn.windows:
            target = plane.transpose(turn.order)[:, *within(window.inner, turn.across)]
            for slab in progress.remaining(slabs(turn.along, _DEPTH)):
                outer = list(window.outer)
                outer.insert(turn.order[0], slab)
                # Read at once: a slice of the volume is decoded for all of these planes, not for each.
                block = Volume.from_array(volume[tuple(outer)].transpose(turn.order), turn.voxel_nm, volume.path)
                for at, probability in enumerate(model.probability_slices(block), start=slab.start - turn.along.start):
                    if probability is not None:
                        target[at] = np.rint(probability[window.kept] * 255)
                    progress.step()
                planes.flush()
                progress.finished()


@dataclass(frozen=True)
class _Turn:
    """The volume seen along another axis: `order` of its axes then, and the region in that order."""

    order: tuple[int, int, int]
    voxel_nm: Voxel
    along: slice
    across: tuple[slice, slice]
    windows: list[Window]


def _turns(model: VolumePredictor, volume: Volume, region: Box) -> Iterator[_Turn]:
    for order in ((1, 0, 2), (2, 0, 1)):  # y z x: xz planes; x z y: yz planes
        shape, voxel_nm, (along, *across) = (
            tuple(values[i] for i in order) for values in (volume.shape, volume.voxel_nm, region)
        )
        turned = dataclasses.replace(volume, shape=shape, voxel_nm=voxel_nm)  # for its geometry: it reads no pixels
        yield _Turn(order, voxel_nm, along, tuple(across), list(model.windows(turned, across)))


def averaged(slices: Iterator[ProbabilitySlice], others: np.ndarray) -> Iterator[ProbabilitySlice]:
    """Mean of each probability slice, which counts half, and of the others at its place, `plane z y x` uint8.

    Slices count more because the network learned from slices. None stays None.
    """
    for z, probability in enumerate(slices):
        if probability is None:
            yield None
        else:
            yield (probability + others[:, z].mean(axis=0, dtype=np.float32) / 255) / 2
