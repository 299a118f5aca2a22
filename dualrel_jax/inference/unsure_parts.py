"""Connected parts of a mask that the network is not sure of: found box by box, in a volume of any size.

A part is unsure where its mean probability lies far below that of the whole mask. What counts as far is relative, for a
network is less sure of all mitochondria in some volumes than in others (results/log/59-unsure-parts-of-any-mask.md).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dualrel_jax.metrics.segmentation import above
from dualrel_jax.utils.boxes import Box, Shape, grown, size, within

NONE = 1.0  # a margin at which nothing is unsure
# Where labels say what a mitochondrion looks like, even a pale one is mostly right; elsewhere it is mostly wrong.
OF_THE_TRAINING, ELSEWHERE = 0.25, 0.15
ELSEWHERE_XYZ = 0.2  # the mean over planes along all axes is less sure of everything


def margin_of(settings: ConfigDict, known: bool, planes: str) -> float:
    """`predict.unsure_margin`; where it is left open, by `planes` and whether the volume is `known`, of the training.

    NONE where a threshold is made for masks that keep all parts.
    """
    if settings.points or settings.foreground_fraction:
        return NONE
    return settings.unsure_margin or (OF_THE_TRAINING if known else ELSEWHERE_XYZ if planes == "xyz" else ELSEWHERE)


class BoxParts(NamedTuple):
    """The parts 1 to n in a box, whose voxels are connected by faces.

    Attributes:
        voxels: n, how many of the box.
        total: n, the sum of their probabilities, 0..255.
        first, behind: for z, y and x the part of each connected area, in the first plane of the box, and in the plane
            behind its last one, which is the first of the next box; None where the volume ends.
    """

    voxels: np.ndarray
    total: np.ndarray
    first: tuple[np.ndarray, ...]
    behind: tuple[np.ndarray | None, ...]


def read_extent(box: Box, shape: Shape) -> Box:
    """What `label_parts` of a box needs to see: the box and the planes behind it."""
    return tuple(slice(part.start, outer.stop) for part, outer in zip(box, grown(box, (1, 1, 1), shape), strict=True))


def label_parts(values: np.ndarray, threshold: float) -> tuple[np.ndarray, int]:
    """(part 1 to n of each voxel of a box and the planes behind it, 0 below the threshold; n).

    Args:
        values: z y x uint8, probabilities 0..255.
        threshold: probability, 0..1.
    """
    mask = above(values, threshold)
    return ndimage.label(mask) if mask.any() else (np.zeros(mask.shape, np.int32), 0)


def measure_parts(values: np.ndarray, threshold: float, box: Box, shape: Shape) -> BoxParts:
    """The parts in a box of a volume of `shape`; `values` as in `label_parts`."""
    labels, n = label_parts(values, threshold)
    inside = within(box, read_extent(box, shape))
    core = labels[inside].ravel()
    found = np.flatnonzero(core)
    voxels = np.bincount(core[found], minlength=n + 1)[1:]
    total = np.bincount(core[found], values[inside].ravel()[found], minlength=n + 1)[1:]
    first, behind = [], []
    for axis, part in enumerate(inside):
        plane = list(inside)
        plane[axis] = 0
        first.append(_areas(labels[tuple(plane)]))
        plane[axis] = part.stop
        behind.append(_areas(labels[tuple(plane)]) if part.stop < labels.shape[axis] else None)
    return BoxParts(voxels, total, tuple(first), tuple(behind))


def _areas(plane: np.ndarray) -> np.ndarray:
    """The part that each connected area of a plane belongs to, in the order of the areas' first pixels."""
    areas, n = ndimage.label(plane)
    first = np.unique(areas, return_index=True)[1][-n:] if n else np.zeros(0, int)
    return plane.ravel()[first]


class UnsureParts(NamedTuple):
    """The unsure parts of a volume.

    Attributes:
        in_boxes: for each box, n bool: which of its parts are unsure.
        count: how many they are in the volume.
        fraction: of the voxels above the threshold that they hold.
    """

    in_boxes: list[np.ndarray]
    count: int
    fraction: float


def find_unsure(every: Sequence[BoxParts], shape: Shape, sides: Shape, margin: float) -> UnsureParts:
    """The unsure parts of a volume from the parts of its boxes, in the order of `boxes.grid(shape, sides)`.

    A part is unsure if its mean probability is lower by more than `margin` than that of all parts.
    """
    starts = np.cumsum([0, *(len(parts.voxels) for parts in every)])
    counts = [math.ceil(length / side) for length, side in zip(shape, sides, strict=True)]
    pairs = [np.zeros((2, 0), int)]
    for i, parts in enumerate(every):
        for behind, axis, step in zip(parts.behind, range(3), (counts[1] * counts[2], counts[2], 1), strict=True):
            if behind is not None:
                following = every[i + step].first[axis]
                pairs.append(np.stack([starts[i] + behind - 1, starts[i + step] + following - 1]))
    ends = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(ends.shape[1], bool), tuple(ends)), shape=(starts[-1],) * 2)
    _, group = connected_components(graph, directed=False)
    voxels = np.bincount(group, np.concatenate([parts.voxels for parts in every]))
    total = np.bincount(group, np.concatenate([parts.total for parts in every]))
    unsure = total < (total.sum() / max(voxels.sum(), 1) - margin * 255) * voxels
    fraction = voxels[unsure].sum() / max(voxels.sum(), 1)
    return UnsureParts(np.split(unsure[group], starts[1:-1]), np.count_nonzero(unsure), fraction)


def sure_mask(values: np.ndarray, threshold: float, unsure: np.ndarray, box: Box, shape: Shape) -> np.ndarray:
    """z y x bool: the voxels of a box above the threshold, without its parts that are `unsure`, n bool."""
    inside = within(box, read_extent(box, shape))
    if not unsure.any():
        return above(values[inside], threshold)
    labels, _ = label_parts(values, threshold)
    return np.append(False, ~unsure)[labels[inside]]


def without_unsure_parts(values: np.ndarray, threshold: float, margin: float) -> np.ndarray:
    """z y x bool: the mask of a volume in memory, of probabilities 0..255."""
    if margin >= NONE:
        return above(values, threshold)
    whole = tuple(slice(0, length) for length in values.shape)
    parts = measure_parts(values, threshold, whole, values.shape)
    (unsure,) = find_unsure([parts], values.shape, size(whole), margin).in_boxes
    return sure_mask(values, threshold, unsure, whole, values.shape)
