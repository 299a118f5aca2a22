"""The mask of a window divided into basins of the distance to the background, the same whatever the window.

A basin is what ascends to one maximum. Inside a window both are known for sure only at some distance from where the
window ends and the volume does not; where that is not enough, the caller takes a larger window.
"""

import math
from typing import NamedTuple

import cc3d
import numpy as np
from scipy import ndimage

from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.instances.stitch import Basins, Necks, Passes, merge, scrambled
from dualrel_jax.utils import boxes
from dualrel_jax.utils.boxes import Box, Shape

THICK_NM = 500.0  # distances beyond this, and the depth of a neck, count as this: it bounds what a window must show


class Pieces(NamedTuple):
    """What a box knows about its part of the instances.

    Attributes:
        labels: `z y x` uint32 of the box, 0 background, 1 the first of `basins`.
        basins: with voxels in the box.
        passes: between these, and to those in the next box, that the box cannot decide alone; ends are ids.
    """

    labels: np.ndarray
    basins: Basins
    passes: Passes


def no_pieces(shape: Shape) -> Pieces:
    """Of a box of this shape that is all background."""
    basins = Basins(np.zeros(0, np.int64), np.zeros(0, np.float32))
    passes = Passes(np.zeros((0, 2), np.int64), np.zeros(0, np.float32), np.zeros(0, np.int64))
    return Pieces(np.zeros(shape, np.uint32), basins, passes)


def fill_holes(mask: np.ndarray, outer: Box, shape: Shape, hole_voxels: float) -> list[tuple[int, int]]:
    """Fills pockets of background below `hole_voxels` in place; a pocket that is open to a face of the volume stays.

    Args:
        mask: `z y x` bool of the window `outer` of a volume of this shape.
        outer, shape: where the window is.
        hole_voxels: 0: none is filled.

    Returns:
        Per axis the voxels at both ends of the window in which pockets lie that may be filled or not: they continue
        outside.
    """
    unsure = [[0, 0] for _ in shape]
    if hole_voxels <= 0 or mask.all():
        return unsure
    pockets = cc3d.connected_components(~mask, connectivity=26, out_dtype=np.uint32)
    statistics = cc3d.statistics(pockets)
    small = statistics["voxel_counts"] < hole_voxels
    small[0] = False
    cut: dict[int, list[tuple[int, int]]] = {}
    for axis, ends in enumerate(boxes.open_ends(outer, shape)):
        for end, continues in enumerate(ends):
            touching = np.unique(pockets[(slice(None),) * axis + (-end,)])
            if not continues:
                small[touching] = False
            else:
                for i in touching.tolist():
                    cut.setdefault(i, []).append((axis, end))
    for i, sides in cut.items():
        if small[i]:
            small[i] = False
            axis, end = sides[0]
            part = statistics["bounding_boxes"][i][axis]
            depth = pockets.shape[axis] - part.start if end else part.stop
            unsure[axis][end] = max(unsure[axis][end], int(depth))
    mask |= small[pockets]
    return unsure


def distance_nm(mask: np.ndarray, voxel_nm: Voxel) -> np.ndarray:
    """`z y x` float32: distance of each voxel to the background, which is nowhere beyond the array.

    Component by component: most of a volume is background. The nearest voxel outside a component is never one of
    another, which would touch it.
    """
    components = cc3d.connected_components(mask, connectivity=6, out_dtype=np.uint32)
    distance = np.zeros(mask.shape, np.float32)
    for i, box in enumerate(ndimage.find_objects(components), start=1):
        window = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
        inside = components[window] == i
        nearest = ndimage.distance_transform_edt(inside, sampling=voxel_nm) if not inside.all() else np.inf
        np.copyto(distance[window], nearest, where=inside, casting="same_kind")
    return distance


class _Foreground:
    """The voxels of a mask as a list, with their neighbours."""

    def __init__(self, mask: np.ndarray, outer: Box, shape: Shape):
        self.window = mask.shape
        self.at = np.flatnonzero(mask)
        self.zyx = [c.astype(np.int32) for c in np.unravel_index(self.at, mask.shape)]
        self._position = np.full(mask.size, -1, np.int32)
        self._position[self.at] = np.arange(len(self.at), dtype=np.int32)
        z, y, x = (c.astype(np.int64) + part.start for c, part in zip(self.zyx, outer, strict=True))
        self.ids = (z * shape[1] + y) * shape[2] + x
        self.ranks = scrambled(self.ids)

    def neighbours(self, axis: int, step: int) -> np.ndarray:
        """Position in the list of the next voxel along `axis`, -1 where it is background or outside the window."""
        stride = math.prod(self.window[axis + 1 :]) * step
        last = self.window[axis] - 1 if step > 0 else 0
        there = self._position[np.minimum(np.maximum(self.at + stride, 0), len(self._position) - 1)]
        there[self.zyx[axis] == last] = -1
        return there

    def inside(self, box: Box) -> np.ndarray:
        """Whether each voxel lies in a box, in voxels of the window."""
        inside = np.ones(len(self.at), bool)
        for c, part in zip(self.zyx, box, strict=True):
            inside &= (c >= part.start) & (c < part.stop)
        return inside


def divide(
    mask: np.ndarray, core: Box, outer: Box, shape: Shape, *, voxel_nm: Voxel, unsure: list, necks: Necks
) -> Pieces | None:
    """Divides the mask `z y x` bool of the window `outer` into basins, joins those it can, and keeps those of `core`.

    Args:
        mask: of the window.
        core, outer, shape: the box, the window that shows it with its surroundings, and the size of the volume.
        voxel_nm: (z, y, x).
        unsure: from `fill_holes`.
        necks: where it is parted.

    Returns:
        None where the window is too small to know the basins of the box.
    """
    limit_nm = THICK_NM + (necks.depth_nm if math.isfinite(necks.depth_nm) else 0)
    height = np.minimum(distance_nm(mask, voxel_nm), np.float32(limit_nm)).ravel()
    voxels = _Foreground(mask, outer, shape)
    height_nm = height[voxels.at]
    del height
    exact = _exact(voxels, height_nm, outer, shape, voxel_nm=voxel_nm, unsure=unsure)
    root = _ascend(voxels, height_nm, exact, voxel_nm)
    inner = boxes.within(core, outer)
    seen = voxels.inside(boxes.within(boxes.grown(core, (1, 1, 1), shape), outer))
    if (root[seen] < 0).any():
        return None
    basins, passes, node = _graph(voxels, height_nm, root, inner)
    in_core = voxels.inside(inner)
    complete = np.zeros(len(basins.ids), bool)
    complete[node[in_core]] = True
    complete[node[in_core & ~voxels.inside(_without_rim(core, outer, shape))]] = False
    group, passes = merge(basins, passes, necks, complete)
    labels = np.zeros(voxels.window, np.uint32)
    kept, number = np.unique(group[node[in_core]], return_inverse=True)
    labels.ravel()[voxels.at[in_core]] = number + 1
    passes = Passes(basins.ids[passes.ends], passes.heights_nm, passes.places)
    return Pieces(labels[inner].copy(), Basins(basins.ids[kept], basins.peaks_nm[kept]), passes)


def _exact(
    voxels: _Foreground, height_nm: np.ndarray, outer: Box, shape: Shape, *, voxel_nm: Voxel, unsure: list
) -> np.ndarray:
    """Whether the distance of each voxel is that in the whole volume: all that is unknown lies further away.

    The last known layer is never exact, since its neighbours may be foreground or not.
    """
    known_nm = np.full(len(height_nm), np.inf, np.float32)
    for axis, (ends, beyond) in enumerate(zip(boxes.open_ends(outer, shape), unsure, strict=True)):
        c, last = voxels.zyx[axis], voxels.window[axis] - 1
        if ends[0]:
            np.minimum(known_nm, (c - beyond[0]) * np.float32(voxel_nm[axis]), out=known_nm)
        if ends[1]:
            np.minimum(known_nm, (last - beyond[1] - c) * np.float32(voxel_nm[axis]), out=known_nm)
    return height_nm <= known_nm


def _ascend(voxels: _Foreground, height_nm: np.ndarray, exact: np.ndarray, voxel_nm: Voxel) -> np.ndarray:
    """Position of the maximum that the steepest ascent leads to from each voxel; -1 where that is not sure."""
    parent = np.arange(len(height_nm), dtype=np.int32)
    best_slope = np.zeros(len(height_nm), np.float32)
    best_rank = voxels.ranks.copy()
    sure = exact.copy()
    for axis in range(3):
        for step in (-1, 1):
            there = voxels.neighbours(axis, step)
            here = np.flatnonzero(there >= 0)
            there = there[here]
            sure[here] &= exact[there]
            slope = (height_nm[there] - height_nm[here]) / np.float32(voxel_nm[axis])
            rank = voxels.ranks[there]
            better = (slope > best_slope[here]) | ((slope == best_slope[here]) & (rank > best_rank[here]))
            here, there = here[better], there[better]
            parent[here], best_slope[here], best_rank[here] = there, slope[better], rank[better]
    parent = np.where(sure, parent, np.arange(len(parent), dtype=np.int32))
    while True:
        further = parent[parent]
        if (further == parent).all():
            return np.where(sure[parent], parent, -1)
        parent = further


def _graph(
    voxels: _Foreground, height_nm: np.ndarray, root: np.ndarray, inner: Box
) -> tuple[Basins, Passes, np.ndarray]:
    """The basins in `inner` and right behind it, the passes between them, and the basin of each voxel.

    A pair of voxels belongs to the box that holds the first of them.
    """
    in_core = voxels.inside(inner)
    ends, heights_nm, places = [], [], []
    for axis in range(3):
        there = voxels.neighbours(axis, 1)
        here = np.flatnonzero(in_core & (there >= 0))
        here = here[root[here] != root[there[here]]]
        there = there[here]
        ends.append(np.stack([root[here], root[there]], axis=1))
        heights_nm.append(np.minimum(height_nm[here], height_nm[there]))
        places.append(voxels.ids[here] * 3 + axis)
    ends = np.concatenate(ends)
    roots = np.unique(np.concatenate([root[in_core], ends[:, 1]]))
    node_of_root = np.full(len(root), -1, np.int32)
    node_of_root[roots] = np.arange(len(roots), dtype=np.int32)
    passes = Passes(node_of_root[ends].astype(np.int64), np.concatenate(heights_nm), np.concatenate(places))
    node = np.where(root >= 0, node_of_root[root], -1)
    return Basins(voxels.ids[roots], height_nm[roots]), passes, node


def _without_rim(core: Box, outer: Box, shape: Shape) -> Box:
    """The box without its outermost layers where the volume continues, in voxels of the window."""
    smaller = tuple(
        slice(part.start + before, part.stop - behind)
        for part, (before, behind) in zip(core, boxes.open_ends(core, shape), strict=True)
    )
    return boxes.within(smaller, outer)
