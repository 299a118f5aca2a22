"""What is written is read back by `open_volume`, whole or not at all."""

import contextlib
import errno
import json
import tracemalloc

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from dualrel_jax.data.io import writers
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.errors import InputError

SIZE_NM = st.floats(0.5, 900).map(lambda size: float(f"{size:.4g}"))


def write(path, array, voxel_nm=None):
    with open_writer(path, array.shape, array.dtype, voxel_nm) as writer:
        for z, image in enumerate(array):
            writer.write(z, image)


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(5, 40)),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float32"]),
    voxel_nm=st.none() | st.tuples(SIZE_NM, SIZE_NM, SIZE_NM),
)
def test_round_trip(tmp_path_factory, suffix, shape, dtype, voxel_nm):
    path = tmp_path_factory.mktemp("written") / f"new folder/mask{suffix}"
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    write(path, array, voxel_nm)
    volume = open_volume(path, verbose=False)
    np.testing.assert_array_equal(volume[:], array)
    assert volume.dtype == dtype
    assert volume.voxel_nm == (None if voxel_nm is None else pytest.approx(voxel_nm, rel=1e-5))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_unknown_section_thickness_stays_unknown(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", np.zeros((2, 5, 6), np.uint8), (float("nan"), 4.6, 4.6))
    assert str(open_volume(tmp_path / f"a{suffix}", verbose=False).voxel_nm) == "(nan, 4.6, 4.6)"


def test_tiff_is_compressed_and_readable_by_others(tmp_path):
    array = np.zeros((3, 300, 400), np.uint8)
    write(tmp_path / "mask.tif", array, (30.0, 8.0, 8.0))
    assert (tmp_path / "mask.tif").stat().st_size < 5000
    with tifffile.TiffFile(tmp_path / "mask.tif") as tif:
        assert tif.imagej_metadata["spacing"] == 30 and tif.imagej_metadata["unit"] == "nm"
        assert tif.series[0].axes == "ZYX"


def test_a_stack_that_may_pass_4_gib_is_a_big_tiff(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (500, 500), np.uint8)
    with pytest.raises(ValueError, match="only 1"), open_writer(tmp_path / "a.tif", (20000, 500, 500), "u1") as writer:
        writer.write(0, noise)  # more than the buffer holds
        assert (tmp_path / "a.tif.part").read_bytes()[2] == 43


def test_zarr_names_its_axes_and_unit(tmp_path):
    write(tmp_path / "mask.zarr", np.zeros((2, 5, 6), np.uint8), (30.0, 8.0, 8.0))
    scales = json.loads((tmp_path / "mask.zarr/zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]
    assert [axis["unit"] for axis in scales["axes"]] == ["nanometer"] * 3
    assert json.loads((tmp_path / "mask.zarr/0/zarr.json").read_text())["dimension_names"] == ["z", "y", "x"]


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_nothing_half_written_stays(tmp_path, suffix):
    path = tmp_path / f"mask{suffix}"
    old = np.ones((2, 5, 6), np.uint8)
    write(path, old)
    with pytest.raises(RuntimeError, match="stopped"), open_writer(path, (3, 5, 6), np.uint8) as writer:
        writer.write(0, old[0])
        raise RuntimeError("stopped")
    with pytest.raises(ValueError, match="only 1 of 3"), open_writer(path, (3, 5, 6), np.uint8) as writer:
        writer.write(0, old[0])
    np.testing.assert_array_equal(open_volume(path, verbose=False)[:], old)
    assert len(list(tmp_path.iterdir())) == 1
    write(path, 2 * old)
    assert open_volume(path, verbose=False)[0].max() == 2


def test_a_kill_while_an_earlier_zarr_is_deleted_leaves_nothing_in_the_way(tmp_path, monkeypatch):
    """Half a folder has no zarr.json: the next command would take it for somebody else's."""

    def killed(place):
        if place.is_dir():
            (place / "zarr.json").unlink()
            raise KeyboardInterrupt

    path, old, new = tmp_path / "a.zarr", np.full((2, 4, 5), 7, np.uint8), np.full((2, 4, 5), 9, np.uint8)
    write(path, old)
    with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
        with open_writer(path, new.shape, new.dtype) as writer:
            for z, image in enumerate(new):
                writer.write(z, image)
            patched.setattr(writers, "remove", killed)
    write(path, new)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zarr"] and (open_volume(path)[:] == 9).all()


def test_slices_come_in_order_and_of_the_shape_announced(tmp_path):
    image = np.zeros((5, 6), np.uint8)
    for z, wrong in [(1, image), (0, image.T), (0, image.astype(np.float32))]:
        with (
            pytest.raises(ValueError, match="expected"),
            open_writer(tmp_path / "a.tif", (2, 5, 6), np.uint8) as writer,
        ):
            writer.write(z, wrong)


def test_full_disk(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tifffile.TiffWriter, "write", full)
    with pytest.raises(InputError, match="No space left on device.*free some space"):
        write(tmp_path / "a.tif", np.zeros((2, 5, 6), np.uint8))
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"\.tif, \.tiff, \.zarr"):
        open_writer(tmp_path / "mask.jpg", (1, 5, 6), np.uint8)
    (tmp_path / "theirs.zarr").mkdir()
    (tmp_path / "theirs.zarr/zarr.json").write_text('{"node_type": "group"}')
    with pytest.raises(InputError, match="did not write"):
        open_writer(tmp_path / "theirs.zarr", (1, 5, 6), np.uint8)
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="cannot be written"),
        open_writer(tmp_path / "file/a.tif", (1, 5, 6), np.uint8),
    ):
        pass


def test_memory_is_that_of_a_slice(tmp_path):
    image = np.zeros((768, 1024), np.uint8)
    tracemalloc.start()
    with open_writer(tmp_path / "a.tif", (40, *image.shape), np.uint8) as writer:
        for z in range(40):
            writer.write(z, image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * image.nbytes
