"""From a probability in memory to numbered instances: threshold, holes, connected components, parting at necks."""

import math

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.errors import InputError
from dualrel_jax.instances import basins
from dualrel_jax.instances.basins import Pieces
from dualrel_jax.instances.stitch import Necks, stitch
from dualrel_jax.utils import boxes
from dualrel_jax.utils.boxes import Box, Shape

HALO_NM = 400.0  # of the first window around a box: most maxima and their distances lie within
_ROUNDING = 1e-3  # real numbers may lie outside 0..1 by this much
_MASK_FRACTION = 0.001  # more voxels of 1 than this, and none above: a mask, not probabilities of 1/255


def check_range(values: np.ndarray, name: str, first_z: int = 0) -> None:
    """InputError for real numbers `z y x` outside 0..1.

    Args:
        name, first_z: of the volume, and of the first slice in it, for the message.
    """
    if values.dtype.kind != "f":
        return
    for z, slice_yx in enumerate(values, start=first_z):
        low, high = slice_yx.min(), slice_yx.max()
        if not -_ROUNDING <= low <= high <= 1 + _ROUNDING:
            raise InputError(
                f"{name}: slice {z} holds values from {low:g} to {high:g}; expected probabilities as real numbers "
                "from 0 to 1, or as uint8 from 0 to 255: save it as 8 bit, or divide it by its full scale"
            )


def check_scale(dtype: np.dtype, highest: float, nonzero: int, voxels: int, name: str) -> None:
    """InputError for a mask of 0 and 1 where probabilities of 0..255 are expected.

    Args:
        dtype, highest, nonzero, voxels: of the volume: its type, highest value, voxels above 0, and all voxels.
        name: of the volume, for the message.
    """
    if dtype == np.uint8 and highest == 1 and nonzero > _MASK_FRACTION * voxels:
        raise InputError(
            f"{name}: holds nothing but 0 and 1 as uint8; expected probabilities from 0 to 255: multiply it by 255 if "
            "it is a mask"
        )


def label_instances(mask: np.ndarray, voxel_nm: Voxel, settings: ConfigDict, side: int = 0) -> np.ndarray:
    """Numbers the instances of a `z y x` bool mask: uint16, or uint32 beyond 65535; 1 is the largest, 0 background.

    Voxels are connected by their faces only: noise that touches at an edge or a corner joins no mitochondria.

    Args:
        settings: `hole_um3`, `neck_depth_nm`, `neck_ratio`, `min_um3`; see configs/base.py.
        side: of the boxes that the mask is worked through in; 0: one box. It does not change the result.
    """
    cores = boxes.grid(mask.shape, (side,) * 3 if side else mask.shape)
    every = [
        label_box(lambda outer: mask[outer].copy(), core, mask.shape, voxel_nm=voxel_nm, settings=settings)
        for core in cores
    ]
    groups = stitch([box.basins for box in every], [box.passes for box in every], necks_of(settings))
    labels = np.zeros(mask.shape, np.uint32)
    for core, box, group in zip(cores, every, groups, strict=True):
        labels[core] = np.append(0, group + 1)[box.labels]
    voxels = np.bincount(labels.ravel())[1:]
    first = np.unique(labels, return_index=True)[1][-len(voxels) :] if len(voxels) else voxels
    number = numbers_by_size(voxels, first, voxels >= settings.min_um3 / voxel_um3(voxel_nm))
    return np.append(np.zeros(1, number.dtype), number)[labels]


def label_box(read_mask, core: Box, shape: Shape, *, voxel_nm: Voxel, settings: ConfigDict) -> Pieces:
    """The pieces of instances in one box of a volume, from as much of its surroundings as they depend on.

    Args:
        read_mask: box -> bool array `z y x`, which may be written to.
        core: the box.
        shape: of the volume.
        voxel_nm, settings: as in `label_instances`.
    """
    hole_voxels, halo_nm = settings.hole_um3 / voxel_um3(voxel_nm), HALO_NM
    if math.prod(boxes.size(core)) >= hole_voxels and not read_mask(core).any():
        return basins.no_pieces(boxes.size(core))
    while True:
        outer = boxes.grown(core, [math.ceil(halo_nm / nm) for nm in voxel_nm], shape)
        mask = read_mask(outer)
        unsure = basins.fill_holes(mask, outer, shape, hole_voxels)
        pieces = basins.divide(mask, core, outer, shape, voxel_nm=voxel_nm, unsure=unsure, necks=necks_of(settings))
        if pieces is not None:
            return pieces
        halo_nm *= 1.5


def necks_of(settings: ConfigDict) -> Necks:
    """Of `neck_depth_nm`, where 0 means that nothing is parted, and `neck_ratio`."""
    return Necks(settings.neck_depth_nm or math.inf, settings.neck_ratio)


def voxel_um3(voxel_nm: Voxel) -> float:
    return math.prod(voxel_nm) / 1e9


def numbers_by_size(voxels: np.ndarray, first: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """`n`: the number of each instance, 1 the largest; 0 of those left out. uint16, or uint32 beyond 65535.

    Args:
        voxels: `n`, of each instance.
        first: `n`, the first voxel of each in the volume, which orders those of equal size.
        kept: `n` bool, whether it is one of the instances.
    """
    order = np.lexsort((first, -voxels))
    order = order[kept[order]]
    number = np.zeros(len(voxels), np.uint16 if len(order) < 2**16 else np.uint32)
    number[order] = np.arange(1, len(order) + 1)
    return number
