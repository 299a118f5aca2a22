"""Size, shape, position and mean probability of every instance, from parts that boxes of a volume add up to."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.measure import marching_cubes, mesh_surface_area

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.utils import boxes
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.boxes import Box, Shape
from dualrel_jax.utils.tables import csv_table

COLUMNS = ("id", "volume_um3", "surface_um2", "length_um", "mean_probability", "touches_border")
COLUMNS += ("centroid_z_nm", "centroid_y_nm", "centroid_x_nm")
COLUMNS += tuple(f"{axis}_{end}{unit}" for unit in ("", "_nm") for axis in "zyx" for end in ("start", "stop"))
SURROUNDINGS = 8  # voxels around a box that the surfaces in it depend on
_MARGIN = 3  # voxels around an instance that the smoothing of its surface needs
_PRODUCTS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))


class Sums(NamedTuple):
    """What adds up over the parts of an instance; each entry has one row per part.

    Attributes:
        voxels: their number.
        first: the first of them, counted through the volume.
        start, stop: bounding box `z y x`, voxels.
        positions: sums of z, y, x of the voxels.
        products: sums of z z, y y, x x, z y, z x, y x.
        probability: sum of the values.
    """

    voxels: np.ndarray
    first: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    positions: np.ndarray
    products: np.ndarray
    probability: np.ndarray


_MERGE = Sums(np.add, np.minimum, np.minimum, np.maximum, np.add, np.add, np.add)


class Parts(NamedTuple):
    """The surface and the extent of those instances that have some of it in a box; one entry per instance.

    Attributes:
        numbers: of the instances.
        smooth_nm2, rough_nm2: area with and without smoothing; without only where smoothing leaves nothing.
        bulges: whether smoothing leaves something.
        low_nm, high_nm: extent along the principal axis, between the centres of voxels.
    """

    numbers: np.ndarray
    smooth_nm2: np.ndarray
    rough_nm2: np.ndarray
    bulges: np.ndarray
    low_nm: np.ndarray
    high_nm: np.ndarray


def measure(labels: np.ndarray, probability: Volume, voxel_nm: Voxel) -> list[dict]:
    """One row per instance of `labels`, `z y x` numbered 1, 2, ...; see `table`."""
    whole = tuple(slice(0, length) for length in labels.shape)
    sums = add_up(labels, probability[:], whole, labels.shape)
    parts = measure_box(labels, whole, whole, labels.shape, voxel_nm=voxel_nm, axes=axes_nm(sums, voxel_nm))
    return table(sums, [parts], labels.shape, voxel_nm, full_scale(probability.dtype))


def table(sums: Sums, parts: Sequence[Parts], shape: Shape, voxel_nm: Voxel, full: float) -> list[dict]:
    """One row per instance 1, 2, ..., of `sums`; positions count from the volume's first corner.

    volume_um3: voxels times the volume of one. surface_um2: see `surface_nm2`. length_um: extent along the principal
    axis (of largest variance), its outer voxels included: straight, so too short for a bent mitochondrion.
    mean_probability: over its voxels, `full` being 1. touches_border: has a voxel on a face of the volume, so it may
    continue outside. centroid_*_nm: mean of the centres of its voxels. *_start, *_stop: bounding box in voxels, `stop`
    being the first one outside; *_nm: the same in nm.
    """
    nm = np.array(voxel_nm)
    surface, length = _joined(parts, len(sums.voxels))
    length += np.abs(axes_nm(sums, voxel_nm)[1]) @ nm
    mean = sums.probability / sums.voxels / full
    centroids_nm = (sums.positions / sums.voxels[:, None] + 0.5) * nm
    border = ((sums.start == 0) | (sums.stop == shape)).any(axis=1)
    ends = np.stack([sums.start, sums.stop], axis=2)  # n, axis, end
    rows = []
    for i, voxels in enumerate(sums.voxels):
        values = (
            i + 1,
            int(voxels) * math.prod(voxel_nm) / 1e9,
            float(surface[i]) / 1e6,
            float(length[i]) / 1e3,
            float(mean[i]),
            bool(border[i]),
            *centroids_nm[i].tolist(),
            *ends[i].ravel().tolist(),
            *(ends[i] * nm[:, None]).ravel().tolist(),
        )
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def _joined(parts: Sequence[Parts], n: int) -> tuple[np.ndarray, np.ndarray]:
    """(surface in nm2, extent between the centres of voxels in nm) of each of `n` instances."""
    every = Parts(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    i = every.numbers.astype(np.int64) - 1
    smooth, rough, bulges = (np.bincount(i, of, n) for of in (every.smooth_nm2, every.rough_nm2, every.bulges))
    low, high = np.full(n, np.inf), np.full(n, -np.inf)
    np.minimum.at(low, i, every.low_nm)
    np.maximum.at(high, i, every.high_nm)
    return np.where(bulges > 0, smooth, rough), high - low


# ---------------------------------------------------------------------------------------------------------------------
# Sums
# ---------------------------------------------------------------------------------------------------------------------


def add_up(labels: np.ndarray, values: np.ndarray, box: Box, shape: Shape) -> Sums:
    """Sums of the parts 1, 2, ..., each of which has voxels in `labels`, `z y x`, a box of a volume of this shape."""
    at = np.flatnonzero(labels)
    part = labels.ravel()[at].astype(np.int64) - 1
    n = int(part.max(initial=-1)) + 1
    zyx = [c + side.start for c, side in zip(np.unravel_index(at, labels.shape), box, strict=True)]
    first = np.zeros(n, np.int64)
    first[part[::-1]] = ((zyx[0] * shape[1] + zyx[1]) * shape[2] + zyx[2])[::-1]
    ends = np.array([[(s.start, s.stop) for s in found] for found in ndimage.find_objects(labels)], np.int64)
    ends = ends.reshape(n, 3, 2) + np.array([side.start for side in box])[:, None]
    real = [c.astype(np.float64) for c in zyx]
    return Sums(
        voxels=np.bincount(part, minlength=n),
        first=first,
        start=ends[..., 0],
        stop=ends[..., 1],
        positions=np.stack([np.bincount(part, c, n) for c in real], axis=1),
        products=np.stack([np.bincount(part, real[a] * real[b], n) for a, b in _PRODUCTS], axis=1),
        probability=np.bincount(part, values.ravel()[at], n),
    )


def merge(parts: Sums, group: np.ndarray) -> Sums:
    """Sums of the groups 0, 1, ... of parts; each group has a part."""
    if not len(group):
        return parts
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    return Sums(*(how.reduceat(column[order], starts, axis=0) for how, column in zip(_MERGE, parts, strict=True)))


def axes_nm(sums: Sums, voxel_nm: Voxel) -> tuple[np.ndarray, np.ndarray]:
    """(centroids in nm from the centre of the first voxel, unit vectors of largest variance), `n x 3` both."""
    nm = np.array(voxel_nm)
    mean = sums.positions / sums.voxels[:, None]
    covariance = np.empty((len(mean), 3, 3))
    for column, (a, b) in enumerate(_PRODUCTS):
        value = (sums.products[:, column] / sums.voxels - mean[:, a] * mean[:, b]) * nm[a] * nm[b]
        covariance[:, a, b] = covariance[:, b, a] = value
    return mean * nm, np.linalg.eigh(covariance)[1][..., -1]


# ---------------------------------------------------------------------------------------------------------------------
# Surface and extent
# ---------------------------------------------------------------------------------------------------------------------


def measure_box(
    labels: np.ndarray, box: Box, outer: Box, shape: Shape, *, voxel_nm: Voxel, axes: tuple[np.ndarray, np.ndarray]
) -> Parts:
    """What lies in `box` of the surface and the extent of each instance.

    Args:
        labels: `z y x` numbers of the instances in `outer`, the box with `SURROUNDINGS`.
        box, outer, shape: where that is in the volume.
        voxel_nm: (z, y, x).
        axes: from `axes_nm`, of the instances 1, 2, ...
    """
    inner = boxes.within(box, outer)
    numbers, low, high = _extents(labels[inner], box, voxel_nm, axes)
    span = dict(zip(numbers.tolist(), zip(low, high, strict=True), strict=True))
    rows = []
    for i, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is None or not _touches(place, inner):
            continue
        areas = surface_nm2(labels, i, place, voxel_nm, box=box, outer=outer, shape=shape)
        rows.append((i, *areas, *span.get(i, (np.inf, -np.inf))))
    return Parts(*(np.array(column) for column in (zip(*rows, strict=True) if rows else [()] * len(Parts._fields))))


def _touches(place: Box, inner: Box) -> bool:
    return all(a.start <= b.stop and a.stop >= b.start for a, b in zip(place, inner, strict=True))


def _extents(labels: np.ndarray, box: Box, voxel_nm: Voxel, axes: tuple) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(numbers, lowest, highest place along the principal axis) of the instances with voxels in the box."""
    at = np.flatnonzero(labels)
    i = labels.ravel()[at].astype(np.int64) - 1
    along = np.zeros(len(at))
    for c, side, nm, centroid, axis in zip(
        np.unravel_index(at, labels.shape), box, voxel_nm, *(part.T for part in axes), strict=True
    ):
        along += ((c + side.start) * nm - centroid[i]) * axis[i]
    order = np.argsort(i, kind="stable")
    numbers, starts = np.unique(i[order], return_index=True)
    if not len(numbers):
        return numbers, along, along
    return numbers + 1, *(how.reduceat(along[order], starts) for how in (np.minimum, np.maximum))


def surface_nm2(
    labels: np.ndarray, i: int, place: Box, voxel_nm: Voxel, *, box: Box, outer: Box, shape: Shape
) -> tuple[float, float, bool]:
    """Surface of instance `i` with the bounding box `place` in `labels`; where the volume cuts it, the cut is left out.

    The area of the mesh of marching cubes (Lewiner et al., 2003) at 0 of the signed distance in nm, smoothed by a
    Gaussian whose standard deviation is the shortest side of a voxel: 0.97 to 1.00 of the true area of balls and
    slanted rods in voxels of 5 x 5 x 5 to 50 x 4.6 x 4.6 nm. On the mask itself marching cubes finds 1.08 to 1.29,
    because it keeps the steps. An instance one voxel thin vanishes when it is smoothed: then it is not.

    Returns:
        Area in `box` with smoothing; without, where smoothing leaves nothing of what is in `outer`; whether it leaves
        something.
    """
    wide = tuple(
        slice(max(side.start - _MARGIN, 0), min(side.stop + _MARGIN, length))
        for side, length in zip(place, labels.shape, strict=True)
    )
    inside = labels[wide] == i
    # Beyond a face of the volume the instance is continued by its outermost voxels.
    missing = []
    for side, length, (before, behind) in zip(place, labels.shape, boxes.open_ends(outer, shape), strict=True):
        short = max(_MARGIN - side.start, 0), max(side.stop + _MARGIN - length, 0)
        missing.append((0 if before else short[0], 0 if behind else short[1]))
    inside = np.pad(inside, missing, mode="edge")
    if inside.all():
        return 0.0, 0.0, True
    signed_nm = ndimage.distance_transform_edt(inside, sampling=voxel_nm)
    signed_nm -= ndimage.distance_transform_edt(~inside, sampling=voxel_nm)
    smooth_nm = ndimage.gaussian_filter(signed_nm, min(voxel_nm) / np.array(voxel_nm), mode="nearest")
    corner = [o.start + w.start - before for o, w, (before, _) in zip(outer, wide, missing, strict=True)]
    bulges = bool(smooth_nm.max() > 0)
    smooth = _area_nm2(smooth_nm, corner, box, shape, voxel_nm)
    return smooth, 0.0 if bulges else _area_nm2(signed_nm, corner, box, shape, voxel_nm), bulges


def _area_nm2(field_nm: np.ndarray, corner: Sequence[int], box: Box, shape: Shape, voxel_nm: Voxel) -> float:
    """Area where `field_nm`, `z y x` from voxel `corner` on, is 0: of the cells that begin in `box`, in the volume.

    A cell lies between the centres of eight voxels. The cells beyond the faces of the volume count to the next box.
    The mesh is clipped to the volume, half a voxel beyond its outer centres: what is outside has no area then.
    """
    if not field_nm.min() < 0 < field_nm.max():
        return 0.0
    vertices, faces, _, _ = marching_cubes(field_nm, 0)
    vertices = vertices.astype(np.float64) + corner
    cells = np.floor(vertices[faces].mean(axis=1))
    mine = np.ones(len(faces), bool)
    for axis, (side, (before, behind)) in enumerate(zip(box, boxes.open_ends(box, shape), strict=True)):
        if before:
            mine &= cells[:, axis] >= side.start
        if behind:
            mine &= cells[:, axis] < side.stop
    if not mine.any():
        return 0.0
    clipped = vertices.clip(-0.5, np.array(shape) - 0.5) * voxel_nm
    return float(mesh_surface_area(clipped, faces[mine]))


def write_csv(rows: list[dict], path: Path) -> None:
    cell = lambda value: f"{value:.6g}" if isinstance(value, float) else value  # noqa: E731
    write_text(path, csv_table(COLUMNS, ([cell(row[key]) for key in COLUMNS] for row in rows)))


def full_scale(dtype: np.dtype) -> float:
    """The value for a probability of 1: 255 for uint8, else 1."""
    return 255.0 if dtype == np.uint8 else 1.0
