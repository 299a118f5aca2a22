"""From probabilities to instances: threshold, holes, connected components, and a split at narrow necks."""

import math
from collections.abc import Iterable

import cc3d
import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage
from skimage.morphology import local_maxima
from skimage.segmentation import watershed
from tqdm import tqdm

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.errors import InputError
from dualrel_jax.instances import morphometry

_ROUNDING = 1e-3  # real numbers may lie outside 0..1 by this much
_MASK_FRACTION = 0.001  # more voxels of 1 than this, and none above: a mask, not probabilities of 1/255


def mask_above(probability: Volume, threshold: float) -> np.ndarray:
    """`z y x` bool: probability above `threshold`, 0..1. Values are 0..255 (uint8) or 0..1 (float).

    Raises:
        InputError: real numbers outside 0..1, or a mask of 0 and 1 where 0..255 are expected.
    """
    limit = threshold * morphometry.full_scale(probability)
    mask = np.empty(probability.shape, bool)
    highest, ones = 0.0, 0
    for z, (row, slice_yx) in enumerate(zip(mask, probability, strict=True)):
        np.greater(slice_yx, limit, out=row)
        low, high = slice_yx.min(), slice_yx.max()
        if probability.dtype.kind == "f" and not -_ROUNDING <= low <= high <= 1 + _ROUNDING:
            raise InputError(
                f"{probability.path}: slice {z} holds values from {low:g} to {high:g}; expected probabilities as real "
                "numbers from 0 to 1, or as uint8 from 0 to 255: save it as 8 bit, or divide it by its full scale"
            )
        highest, ones = max(highest, float(high)), ones + np.count_nonzero(slice_yx)
    if probability.dtype == np.uint8 and highest == 1 and ones > _MASK_FRACTION * mask.size:
        raise InputError(
            f"{probability.path}: holds nothing but 0 and 1 as uint8; expected probabilities from 0 to 255: multiply "
            "it by 255 if it is a mask"
        )
    return mask


def label_instances(mask: np.ndarray, voxel_nm: Voxel, settings: ConfigDict) -> np.ndarray:
    """Numbers the instances of a `z y x` bool mask: uint16, or uint32 beyond 65535; 1 is the largest, 0 background.

    Voxels are connected by their faces only: noise that touches at an edge or a corner joins no mitochondria.

    Args:
        settings: `hole_um3`, `seed_depth_nm`, `min_um3`; see configs/base.py.
    """
    voxel_um3 = math.prod(voxel_nm) / 1e9
    if settings.hole_um3 > 0:
        # One voxel of background all around: a pocket that is open to a face of the volume is no hole.
        pockets = np.pad(~mask, 1, constant_values=True)
        pockets = cc3d.dust(pockets, settings.hole_um3 / voxel_um3, connectivity=26, in_place=True)
        mask = ~pockets[1:-1, 1:-1, 1:-1]
    labels = cc3d.connected_components(mask, connectivity=6, out_dtype=np.uint32)
    if settings.seed_depth_nm > 0:
        split_touching(labels, voxel_nm, settings.seed_depth_nm)
    return number_by_size(labels, settings.min_um3 / voxel_um3)


def split_touching(labels: np.ndarray, voxel_nm: Voxel, depth_nm: float) -> None:
    """Splits components, `z y x` uint32, in place: each part (see `split`) but the first gets a new number."""
    boxes = ndimage.find_objects(labels)
    top = len(boxes)
    for i, box in enumerate(tqdm(boxes, desc="split", unit="component", mininterval=2), start=1):
        # One voxel of background all around, except where the volume ends: an instance that is cut there continues.
        window = labels[tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)]
        parts = split(window == i, voxel_nm, depth_nm)
        new = parts > 1
        window[new] = parts[new] + (top - 1)
        top += max(int(parts.max()) - 1, 0)


def split(inside: np.ndarray, voxel_nm: Voxel, depth_nm: float) -> np.ndarray:
    """Numbers the parts 1, 2, ... of one component `z y x` bool that only narrow necks join.

    A watershed floods the distance to the background, in nm, from its maxima. Two basins are one part if the highest
    pass between them lies less than `depth_nm` below the lower maximum. The remaining maxima are those of the
    h-maxima transform (Soille, Morphological Image Analysis, 2003, chapter 6); skimage.morphology.h_maxima takes ten
    times longer.
    """
    distance_nm = ndimage.distance_transform_edt(inside, sampling=voxel_nm).astype(np.float32)
    if inside.all() or distance_nm.max() < depth_nm:
        return inside.astype(np.uint32)
    seeds = cc3d.connected_components(local_maxima(distance_nm, connectivity=1) & inside, connectivity=6)
    basins = watershed(-distance_nm, seeds, connectivity=1, mask=inside)
    return _merge_basins(basins, distance_nm, depth_nm)[basins]


def _merge_basins(basins: np.ndarray, distance_nm: np.ndarray, depth_nm: float) -> np.ndarray:
    """Part of each basin, both numbered from 1: array from basin to part, 0 stays 0."""
    passes_nm, pairs = [], []
    for axis in range(3):
        here, there = ((slice(None),) * axis + (side,) for side in (slice(1, None), slice(None, -1)))
        touch = (basins[here] != basins[there]) & (basins[here] > 0) & (basins[there] > 0)
        passes_nm.append(np.minimum(distance_nm[here], distance_nm[there])[touch])
        pairs.append(np.stack([basins[here][touch], basins[there][touch]], axis=1))
    passes_nm, pairs = np.concatenate(passes_nm), np.sort(np.concatenate(pairs), axis=1)
    order = np.argsort(-passes_nm, kind="stable")
    _, highest = np.unique(pairs[order], axis=0, return_index=True)
    n = int(basins.max())
    peaks_nm = np.append(0, ndimage.maximum(distance_nm, basins, np.arange(1, n + 1)))
    root = np.arange(n + 1)
    for at in order[np.sort(highest)]:
        low, high = sorted((_root_of(root, i) for i in pairs[at]), key=lambda i: peaks_nm[i])
        if peaks_nm[low] - passes_nm[at] < depth_nm:
            root[low] = high
    return np.unique([_root_of(root, i) for i in range(n + 1)], return_inverse=True)[1].astype(np.uint32)


def _root_of(root: np.ndarray, i: int) -> int:
    while root[i] != i:
        i = root[i]
    return i


def number_by_size(labels: np.ndarray, smallest_voxels: float) -> np.ndarray:
    """Renumbers labels `z y x` from the largest, 1, to the smallest; labels below `smallest_voxels` become 0."""
    voxels = cc3d.statistics(labels)["voxel_counts"].astype(np.int64)
    voxels[0] = 0
    order = np.argsort(-voxels, kind="stable")
    kept = order[(voxels[order] > 0) & (voxels[order] >= smallest_voxels)]
    number = np.zeros(len(voxels), np.uint16 if len(kept) < 2**16 else np.uint32)
    number[kept] = np.arange(1, len(kept) + 1)
    numbered = np.empty(labels.shape, number.dtype)
    for row, slice_yx in zip(numbered, labels, strict=True):
        row[...] = number[slice_yx]
    return numbered


def true_instances(label: Volume, voxel_nm: Voxel, settings: ConfigDict) -> Iterable[np.ndarray]:
    """Slices of the true instances: the numbers in `label`; a binary label is split into instances as a prediction is.

    Connected components are not enough: in the labels of the VNC stack 13 mitochondria touch and make 6 components.
    """
    if settings.label_kind == "instances":
        return label
    return label_instances(np.stack([slice_yx > 0 for slice_yx in label]), voxel_nm, settings)
