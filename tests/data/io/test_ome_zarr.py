"""Lower resolutions against a slow reference, and where viewers are told they lie."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from dualrel_jax.data.io import ome_zarr
from dualrel_jax.data.io.scratch import open_scratch
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.data.io.writers import open_writer


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(ome_zarr, "CHUNK", (4, 8, 8))


def slow(array, step, reduction):
    """One voxel at a time."""
    out = np.empty([-(-n // s) for n, s in zip(array.shape, step, strict=True)], array.dtype)
    for at in np.ndindex(*out.shape):
        box = array[tuple(slice(i * s, (i + 1) * s) for i, s in zip(at, step, strict=True))]
        if reduction == "stride":
            out[at] = box[0, 0, 0]
        elif reduction == "majority":
            out[at] = 255 if 2 * (box > 0).sum() >= box.size else 0
        else:
            out[at] = np.rint(np.float32(box.sum()) / box.size)
    return out


@pytest.mark.parametrize("reduction", ome_zarr.REDUCTIONS)
def test_levels_are_those_of_a_slow_reference(tmp_path, reduction):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (11, 33, 36), dtype=np.uint8)
    array[:, :16, :16] = 0
    array = np.where(array > 150, 255, 0).astype(np.uint8) if reduction == "majority" else array
    path = tmp_path / "a.zarr"
    with open_writer(path, array.shape, np.uint8, (5, 5, 5), reduction=reduction) as writer:
        for z, image in enumerate(array):
            writer.write(z, image)
    np.testing.assert_array_equal(open_volume(path, verbose=False)[:], array)
    for level in ("1", "2", "3"):
        array = slow(array, (2, 2, 2), reduction)
        got = open_volume(path / level, verbose=False)[:]
        np.testing.assert_array_equal(got, array)
    assert not (path / "4").exists()


def test_a_path_through_the_folder_above_is_written_and_read(tmp_path, monkeypatch):
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    array = np.arange(160, dtype=np.uint8).reshape(4, 5, 8)
    with open_writer(Path("../a.zarr"), array.shape, np.uint8, (5, 5, 5), reduction="mean") as writer:
        for z, image in enumerate(array):
            writer.write(z, image)
    assert (open_volume("../a.zarr")[:] == array).all() and (tmp_path / "a.zarr").is_dir()
    scratch = open_scratch(Path("../scratch"), array.shape, np.uint8, (4, 4, 4))
    scratch[...] = array
    assert (open_volume("../scratch")[:] == array).all()


def test_border_voxels_are_the_mean_of_what_there_is():
    block = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    for reduction in ("mean", "stride"):
        got = ome_zarr.reduced(block, (2, 2, 2), reduction)
        np.testing.assert_array_equal(got, slow(block, (2, 2, 2), reduction))
    tie = np.uint8([[[0, 255], [255, 0]]])
    assert ome_zarr.reduced(tie, (1, 2, 2), "majority") == 255


@pytest.mark.parametrize(
    ("voxel_nm", "zs"),
    [((5, 5, 5), (1, 2, 4, 8)), ((30, 8, 8), (1, 1, 1, 2)), ((float("nan"), 8, 8), (1, 1, 1, 1)), (None, (1, 1, 1, 1))],
)
def test_anisotropic_volumes_become_isotropic_first(voxel_nm, zs):
    factors = ome_zarr.level_factors((100, 64, 40), voxel_nm)
    assert factors == [(z, 2**i, 2**i) for i, z in enumerate(zs)]


def test_each_level_says_its_voxel_size_and_place(tmp_path):
    path = tmp_path / "a.zarr"
    with open_writer(path, (4, 16, 16), np.uint8, (10, 5, 5), offset=(3, 0, 7), reduction="mean") as writer:
        for z in range(4):
            writer.write(z, np.ones((16, 16), np.uint8))
    levels = json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]["datasets"]
    steps = [[list(step.values())[1] for step in level["coordinateTransformations"]] for level in levels]
    assert steps == [[[10, 5, 5], [30, 0, 35]], [[10, 10, 10], [30, 2.5, 37.5]]]
    assert [open_volume(path / str(i), verbose=False).voxel_nm for i in (0, 1)] == [(10, 5, 5), (10, 10, 10)]


def test_an_interrupted_writer_is_continued_block_by_block(tmp_path):
    path, array = tmp_path / "a.zarr", np.random.default_rng(0).integers(1, 9, (8, 16, 16), dtype=np.uint8)
    corners = list(itertools.product((0, 4), (0, 8), (0, 8)))

    def write(corners):
        with open_writer(path, array.shape, np.uint8, keep=True) as writer:
            for z, y, x in corners:
                writer.write_block((z, y, x), array[z : z + 4, y : y + 8, x : x + 8])
            if len(corners) < 5:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write(corners[:3])
    assert not path.exists() and (tmp_path / "a.zarr.part").exists()
    write(corners[3:])
    np.testing.assert_array_equal(open_volume(path, verbose=False)[:], array)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"]
