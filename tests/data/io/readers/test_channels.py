"""One of several channels: named as FILE:Channel 1 in all formats, never guessed."""

import json

import h5py
import numpy as np
import pytest
import tensorstore as ts
import tifffile

from dualrel_jax.data.io.pyramid import LevelChoice
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.errors import InputError

EM = np.random.default_rng(0).integers(0, 255, (2, 5, 12, 16), np.uint8)  # c z y x


def opened(path, **options):
    return open_volume(path, verbose=False, **options)


def check(path):
    """Each channel by its name, lazily and by boxes, and again by the path that the volume states."""
    for channel, expected in enumerate(EM):
        volume = opened(f"{path}:Channel {channel}")
        np.testing.assert_array_equal(volume[:], expected)
        np.testing.assert_array_equal(opened(volume.path)[3, 2:5, 4:], expected[3, 2:5, 4:])
        np.testing.assert_array_equal(opened(f"{path}:channel {channel}[1:3,,4:8]")[:], expected[1:3, :, 4:8])
    with pytest.raises(InputError, match=r"expected one.*Channel 0, up to Channel 1"):
        opened(path)
    with pytest.raises(InputError, match=r"has no Channel 2; expected one"):
        opened(f"{path}:Channel 2")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(
    ("kind", "axes"), [("imagej", "ZCYX"), ("ome", "CZYX"), ("ome", "ZCYX"), ("shaped", "CZYX"), ("shaped", "ZCYX")]
)
def test_tiff(tmp_path, kind, axes, compression):
    array = EM if axes == "CZYX" else EM.swapaxes(0, 1)
    options = {kind: True} if kind != "shaped" else {}
    metadata = {"axes": axes}
    tifffile.imwrite(
        tmp_path / "a.tif", array, metadata=metadata, photometric="minisblack", compression=compression, **options
    )
    check(tmp_path / "a.tif")


def test_tiff_of_one_slice_and_without_channels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", EM[:, 0], imagej=True, metadata={"axes": "CYX"})
    np.testing.assert_array_equal(opened(f"{tmp_path}/a.tif:Channel 1")[:], EM[1, :1])
    tifffile.imwrite(tmp_path / "a.tif", EM[0], imagej=True, metadata={"axes": "CYX"})
    assert "its channels as slices" in opened(tmp_path / "a.tif").format and opened(tmp_path / "a.tif").shape[0] == 5
    tifffile.imwrite(tmp_path / "b.tif", EM[0], metadata={"axes": "ZYX"})
    with pytest.raises(InputError, match=r"b\.tif: has axes ZYX .* no Channel 1 .*leave the name of a channel out"):
        opened(f"{tmp_path}/b.tif:Channel 1")
    tifffile.imwrite(tmp_path / "c.tif", EM[None].repeat(3, 0), metadata={"axes": "TCZYX"}, photometric="minisblack")
    with pytest.raises(InputError, match=r"c\.tif: has axes TCZYX .*: save one channel and time point alone"):
        opened(tmp_path / "c.tif")


def test_hdf5(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.moveaxis(EM, 0, -1)
        for axis, name in enumerate("zyxc"):
            file["raw"].dims[axis].label = name
    check(f"{tmp_path}/a.h5:raw")
    np.testing.assert_array_equal(opened(f"{tmp_path}/a.h5:Channel 1")[:], EM[1])
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["Channel 1"], file["Channel 2"] = EM
    np.testing.assert_array_equal(opened(f"{tmp_path}/b.h5:Channel 1")[:], EM[0])  # a data set of that name
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["raw"] = EM[0]
    with pytest.raises(InputError, match=r"c\.h5:raw: has no Channel 1; .*: leave the name of a channel out"):
        opened(f"{tmp_path}/c.h5:raw:Channel 1")


@pytest.mark.parametrize("at", [0, -1])
def test_axes_without_names_have_channels_first_or_last_if_one_is_asked_for(tmp_path, at):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.moveaxis(EM, 0, at)
    with pytest.raises(InputError, match="is 4-D .*save one channel"):
        opened(f"{tmp_path}/a.h5:raw")
    np.testing.assert_array_equal(opened(f"{tmp_path}/a.h5:raw:Channel 1")[:], EM[1])


def write(path, array, driver):
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": str(path)}}
    ts.open(spec, create=True, dtype=array.dtype, shape=array.shape).result().write(array).result()


def test_levels_of_ome_zarr(tmp_path):
    path = tmp_path / "a.zarr"
    levels = []
    for i in range(2):
        write(path / str(i), EM[None, :, :, :: 2**i, :: 2**i], "zarr")
        scale = {"type": "scale", "scale": [1, 1, 30, 8 * 2**i, 8 * 2**i]}
        levels.append({"path": str(i), "coordinateTransformations": [scale]})
    axes = [{"name": "t"}, {"name": "c"}, *({"name": axis, "unit": "nanometer"} for axis in "zyx")]
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps({"multiscales": [{"axes": axes, "datasets": levels}]}))
    check(path)
    check(f"{path}:0")
    coarse = opened(f"{path}:Channel 1", choice=LevelChoice("1"))
    np.testing.assert_array_equal(coarse[:], EM[1, :, ::2, ::2])
    assert coarse.voxel_nm == (30, 16, 16)
    np.testing.assert_array_equal(opened(coarse.path)[:], coarse[:])
    np.testing.assert_array_equal(opened(coarse.container)[:], EM[1])


def test_frames_of_ome_zarr_and_hdf5_are_slices(tmp_path):
    path = tmp_path / "a.zarr"
    for i in range(2):
        write(path / str(i), EM[0, :, None, :: 2**i, :: 2**i], "zarr")
    levels = [
        {"path": str(i), "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 8 * 2**i, 8 * 2**i]}]}
        for i in range(2)
    ]
    axes = [{"name": "t", "unit": "second"}, {"name": "c"}, *({"name": axis, "unit": "nanometer"} for axis in "yx")]
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps({"multiscales": [{"axes": axes, "datasets": levels}]}))
    for level in range(2):
        volume = opened(path, choice=LevelChoice(str(level)))
        np.testing.assert_array_equal(volume[:], EM[0, :, :: 2**level, :: 2**level])
        assert volume.voxel_nm == pytest.approx((np.nan, 8 * 2**level, 8 * 2**level), nan_ok=True)
        assert "its frames as slices" in volume.format
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = EM[0]
        file["raw"].attrs["axistags"] = json.dumps({"axes": [{"key": axis} for axis in "tyx"]})
    volume = opened(tmp_path / "a.h5")
    np.testing.assert_array_equal(volume[:], EM[0])
    assert "its frames as slices" in volume.format


def test_n5(tmp_path):
    write(tmp_path / "a.n5/raw", EM.T, "n5")  # counts x first
    attributes = json.loads((tmp_path / "a.n5/raw/attributes.json").read_text())
    (tmp_path / "a.n5/raw/attributes.json").write_text(json.dumps(attributes | {"axes": ["x", "y", "z", "c"]}))
    check(f"{tmp_path}/a.n5:raw")
