import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from shapes import ball, blobs, grid_nm

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.instances import morphometry
from dualrel_jax.instances.morphometry import measure
from dualrel_jax.utils import boxes


def as_volume(mask, voxel_nm):
    return Volume.from_array(mask.astype(np.uint8) * 255, voxel_nm)


def surface_nm2(labels, voxel_nm):
    (row,) = measure(labels, as_volume(labels > 0, voxel_nm), voxel_nm)
    return row["surface_um2"] * 1e6


def length_nm(inside, voxel_nm):
    (row,) = measure(inside.astype(np.uint16), as_volume(inside, voxel_nm), voxel_nm)
    return row["length_um"] * 1e3


def test_measures_agree_with_loops_over_voxels():
    voxel_nm = (23.0, 7.0, 6.0)
    labels = ndimage.label(blobs(3))[0].astype(np.uint16)
    value = np.random.default_rng(0).integers(0, 256, labels.shape).astype(np.uint8)
    rows = measure(labels, Volume.from_array(value, voxel_nm), voxel_nm)
    assert [row["id"] for row in rows] == list(range(1, labels.max() + 1)) and len(rows) > 3
    for row in rows:
        voxels = [at for at in np.ndindex(labels.shape) if labels[at] == row["id"]]
        assert row["volume_um3"] == pytest.approx(len(voxels) * 23 * 7 * 6 * 1e-9)
        assert row["mean_probability"] == pytest.approx(sum(int(value[at]) for at in voxels) / len(voxels) / 255)
        cut = any(at[axis] in (0, labels.shape[axis] - 1) for at in voxels for axis in range(3))
        assert row["touches_border"] is cut
        for axis, name in enumerate("zyx"):
            along = [at[axis] for at in voxels]
            assert row[f"centroid_{name}_nm"] == pytest.approx((np.mean(along) + 0.5) * voxel_nm[axis], rel=1e-4)
            assert (row[f"{name}_start"], row[f"{name}_stop"]) == (min(along), max(along) + 1)
            assert row[f"{name}_stop_nm"] == pytest.approx((max(along) + 1) * voxel_nm[axis])


@settings(max_examples=10, deadline=None)
@given(st.tuples(*[st.integers(0, 6)] * 3))
def test_a_place_elsewhere_changes_only_positions(shift):
    voxel_nm = (20, 10, 10)
    mask = np.zeros((22, 34, 34), bool)
    mask[4:16, 4:28, 4:28] = ball((12, 24, 24), voxel_nm, (120, 110, 130), 100)
    labels = mask.astype(np.uint16)
    moved = np.roll(labels, np.subtract(shift, 1), (0, 1, 2))
    (here,), (there,) = (measure(a, as_volume(a > 0, voxel_nm), voxel_nm) for a in (labels, moved))
    for key in ("volume_um3", "surface_um2", "length_um", "mean_probability", "touches_border"):
        assert here[key] == pytest.approx(there[key]), key
    for axis, steps, size in zip("zyx", shift, voxel_nm, strict=True):
        assert there[f"centroid_{axis}_nm"] - here[f"centroid_{axis}_nm"] == pytest.approx((steps - 1) * size, abs=0.01)


@pytest.mark.parametrize("voxel_nm", [(5.0, 5.0, 5.0), (30.0, 10.0, 10.0), (50.0, 4.6, 4.6)])
def test_surface_of_a_ball_and_of_its_half(voxel_nm):
    radius_nm = 30 * voxel_nm[1] if voxel_nm[0] < 50 else 200
    half = [math.ceil((radius_nm + 20) / size) for size in voxel_nm]
    whole = ball([2 * n for n in half], voxel_nm, np.array(half) * voxel_nm, radius_nm).astype(np.uint16)
    area = 4 * math.pi * radius_nm**2
    for labels, share in ((whole, 1), (whole[:, : half[1]], 1 / 2), (whole[:, half[1] :, half[2] :], 1 / 4)):
        assert surface_nm2(labels, voxel_nm) == pytest.approx(share * area, rel=0.03)


def test_surface_of_thin_things():
    disc = (np.hypot(*(np.indices((41, 41)) - 20)) < 15)[None].astype(np.uint16)
    wall_nm2 = surface_nm2(disc, (30, 10, 10))  # one slice: the rim alone
    assert wall_nm2 == pytest.approx(2 * math.pi * 150 * 30, rel=0.03)
    voxel = np.zeros((5, 5, 5), np.uint16)
    voxel[2, 2, 2] = 1
    assert surface_nm2(voxel, (5, 5, 5)) > 0
    assert surface_nm2(np.ones((5, 5, 5), np.uint16), (5, 5, 5)) == 0


def test_length_of_a_slanted_rod():
    shape, voxel_nm, direction = (20, 40, 80), (30, 10, 10), np.array([0.4, 0.3, 0.866])
    at = grid_nm(shape, voxel_nm) - np.reshape((300, 200, 400), (3, 1, 1, 1))
    along = np.tensordot(direction, at, 1)
    rod = (np.abs(along) < 250) & ((at**2).sum(0) - along**2 < 60**2)
    assert length_nm(rod, voxel_nm) == pytest.approx(500, rel=0.06)
    assert length_nm(rod[:, :, ::-1], voxel_nm) == pytest.approx(500, rel=0.06)
    assert length_nm(np.ones((1, 1, 7), bool), voxel_nm) == pytest.approx(70)


@pytest.mark.parametrize("voxel_nm", [(8.0, 8.0, 8.0), (40.0, 9.0, 8.0)])
def test_parts_of_boxes_add_up_to_the_table_of_the_whole(voxel_nm):
    labels = ndimage.label(ndimage.zoom(blobs(5, (20, 20, 20)), 2, order=0))[0].astype(np.uint16)
    labels[30, 30, 30:38] = labels.max() + 1  # thin: smoothed to nothing
    values = np.random.default_rng(0).integers(1, 256, labels.shape).astype(np.uint8)
    whole = measure(labels, Volume.from_array(values, voxel_nm), voxel_nm)
    sums, groups, parts = [], [], []
    grid = boxes.grid(labels.shape, (13, 17, 19))
    for box in grid:
        present, local = np.unique(labels[box], return_inverse=True)
        local = local.reshape(labels[box].shape) + (present[0] > 0)
        sums.append(morphometry.add_up(local, values[box], box, labels.shape))
        groups.append(present[present > 0].astype(int) - 1)
    every = morphometry.Sums(*(np.concatenate(columns) for columns in zip(*sums, strict=True)))
    total = morphometry.merge(every, np.concatenate(groups))
    axes = morphometry.axes_nm(total, voxel_nm)
    for box in grid:
        outer = boxes.grown(box, (morphometry.SURROUNDINGS,) * 3, labels.shape)
        parts.append(morphometry.measure_box(labels[outer], box, outer, labels.shape, voxel_nm=voxel_nm, axes=axes))
    for row, expected in zip(morphometry.table(total, parts, labels.shape, voxel_nm, 255.0), whole, strict=True):
        for key, value in expected.items():
            assert row[key] == pytest.approx(value, rel=1e-3 if key == "surface_um2" else 1e-9), key
