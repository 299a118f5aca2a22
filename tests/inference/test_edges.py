"""Masks grown and shrunk by a distance."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.errors import InputError
from dualrel_jax.inference import edges


def brute_force(mask, voxel_nm, edge_nm):
    """Every voxel against every other."""
    places = np.argwhere(mask) * voxel_nm
    far = np.argwhere(np.ones_like(mask)) * voxel_nm
    near = np.sqrt(((far[:, None] - places[None]) ** 2).sum(-1)).min(1) <= edge_nm + 1e-9
    return near.reshape(mask.shape)


def blobs(shape):
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 2)
    return field > np.quantile(field, 0.8)


@pytest.mark.parametrize("voxel_nm", [(5.0, 5.0, 5.0), (30.0, 8.0, 6.0)])
@pytest.mark.parametrize("edge_nm", [12.0, -12.0, 31.0])
def test_every_voxel_within_the_distance_changes_and_no_other(voxel_nm, edge_nm):
    mask = blobs((8, 14, 15))
    moved = edges.moved_mask(mask, voxel_nm, edge_nm)
    if edge_nm > 0:
        np.testing.assert_array_equal(moved, brute_force(mask, voxel_nm, edge_nm))
    else:
        np.testing.assert_array_equal(moved, ~brute_force(~mask, voxel_nm, -edge_nm))


@pytest.mark.parametrize("edge_nm", [2.0, -4.9])
def test_a_distance_that_moves_nothing_is_refused(edge_nm):
    for voxel_nm in ((30.0, 5.0, 6.0), (float("nan"), 5.0, 5.0)):
        volume = Volume.from_array(np.zeros((2, 5, 6), np.uint8), voxel_nm, "em")
        with pytest.raises(InputError, match="voxels of em are 5 nm apart, so no voxel would change; expected 5 or mo"):
            edges.check_edge(volume, Path("mask.tif"), edge_nm)
        edges.check_edge(volume, Path("mask.tif"), 5.0)


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
@pytest.mark.parametrize(
    ("edge_nm", "voxel_nm"),
    [(25.0, (9.0, 8.0, 8.0)), (-25.0, (9.0, 8.0, 8.0)), (19.2, (6.4, 6.4, 6.4))],  # 19.2 / 6.4 is 2.9999999999999996
)
def test_blocks_give_the_result_of_the_whole(suffix, edge_nm, voxel_nm, tmp_path, monkeypatch):
    monkeypatch.setattr(edges, "SIDE", 256)  # of chunks: the narrowest block
    mask = blobs((40, 60, 300))
    mask[:, :, 240:], mask[16, 30, 258] = False, True  # alone, three voxels beyond the block before it
    writer = open_writer(tmp_path / f"mask{suffix}", mask.shape, np.uint8, voxel_nm, keep=True)
    with writer:
        count = edges.move_edges(Volume.from_array(mask.astype(np.uint8) * 255, voxel_nm), writer, voxel_nm, edge_nm)
    whole = edges.moved_mask(mask, voxel_nm, edge_nm)
    written = open_volume(tmp_path / f"mask{suffix}")[:]
    np.testing.assert_array_equal(written > 0, whole)
    assert set(np.unique(written)) == {0, 255} and count == whole.sum()


def test_slices_of_unknown_distance_are_moved_alone():
    mask = np.zeros((3, 9, 9), bool)
    mask[1, 4, 4] = True
    moved = edges.moved_mask(mask, (edges.APART_NM, 8.0, 8.0), 8.0)
    assert moved.sum() == 5 and moved[1].sum() == 5
    with pytest.raises(InputError, match="does not state its voxel size"):
        edges.check_edge(Volume.from_array(mask), Path("mask.tif"), 5.0)
