"""TIFF: values as displayed whatever the compression, decoders, axes, and Pillow's limit."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from PIL import Image

from dualrel_jax.data.io.readers.pages import any_size
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.errors import InputError

EM = np.random.default_rng(0).integers(0, 255, (5, 12, 16), np.uint8)


def read(path):
    return open_volume(path, verbose=False)[:]


def by_tifffile(path, array, **options):
    tifffile.imwrite(path, array, metadata={"axes": "ZYX"}, **options)


def by_pillow(path, array, white, compression):
    """As displayed: Pillow inverts what it stores with 0 as white."""
    first, *others = map(Image.fromarray, array)
    first.save(path, save_all=True, append_images=others, compression=compression, tiffinfo={262: 0 if white else 1})


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzma"])
def test_0_is_white(tmp_path, dtype, compression):
    array = EM.astype(dtype) * (np.iinfo(dtype).max // 255)
    stored = np.iinfo(dtype).max - array
    by_tifffile(tmp_path / "a.tif", stored, photometric="miniswhite", compression=compression)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), array)
    assert "inverted, as its 0 is white" in open_volume(tmp_path / "a.tif").format
    (tmp_path / "slices").mkdir()
    for z, image in enumerate(stored):
        tifffile.imwrite(tmp_path / f"slices/{z}.tif", image, photometric="miniswhite", compression=compression)
    np.testing.assert_array_equal(read(tmp_path / "slices"), array)


@pytest.mark.parametrize("white", [True, False])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "group4", "lzma"])
def test_0_is_white_as_pillow_writes_it(tmp_path, compression, white):
    by_pillow(tmp_path / "bits.tif", EM > 127, white, compression)
    np.testing.assert_array_equal(read(tmp_path / "bits.tif"), EM > 127)
    if compression != "group4":  # of one bit only
        by_pillow(tmp_path / "grey.tif", EM, white, compression)
        np.testing.assert_array_equal(read(tmp_path / "grey.tif"), EM)


def test_masks_of_bool_by_tifffile_are_as_stored(tmp_path):
    for compression in (None, "zlib"):
        tifffile.imwrite(tmp_path / "a.tif", EM > 127, compression=compression)  # calls 0 white, but inverts nothing
        np.testing.assert_array_equal(read(tmp_path / "a.tif"), EM > 127)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_0_is_white_among_signed_and_real_values(tmp_path, dtype):
    by_tifffile(tmp_path / "a.tif", EM.astype(dtype), photometric="miniswhite")
    with pytest.raises(InputError, match=rf"a\.tif: is stored with 0 as white .* and values of type {dtype}"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_palettes_of_greys_are_applied_and_of_colours_are_not(tmp_path, compression):
    ramp = (257 * np.arange(255, -1, -1)).astype(np.uint16)
    colours = np.random.default_rng(1).integers(0, 65535, (3, 256), np.uint16)
    for colormap, wanted in ((np.stack([ramp] * 3), 255 - EM), (colours, EM)):
        by_tifffile(tmp_path / "a.tif", EM, photometric="palette", colormap=colormap, compression=compression)
        np.testing.assert_array_equal(read(tmp_path / "a.tif"), wanted)


@pytest.mark.parametrize("code", [34712, 50002, 34887])  # JPEG 2000, JPEG XL, LERC
def test_a_missing_decoder_is_no_damage(tmp_path, code):
    by_tifffile(tmp_path / "a.tif", EM, compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as tif:
        for page in tif.pages:
            page.tags["Compression"].overwrite(code)
    with pytest.raises(InputError, match=r"a\.tif: no decoder for its compression .*`pip install imagecodecs`"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["".join(order) for order in itertools.permutations("ZYX")])
def test_axes_in_any_order(tmp_path, order, compression):
    array = EM.transpose(["ZYX".index(axis) for axis in order])
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (30, 10, 8), strict=True)}
    units = {f"PhysicalSize{axis}Unit": "nm" for axis in "ZYX"}
    options = {"compression": compression, "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", array, metadata={"axes": order}, **options)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), EM)
    if order == "ZYX":
        tifffile.imwrite(tmp_path / "a.ome.tif", array, metadata={"axes": order, **sizes, **units}, **options)
        assert open_volume(tmp_path / "a.ome.tif").voxel_nm == (30, 10, 8)


def test_units_of_imagej_that_differ_along_axes(tmp_path):
    description = "ImageJ=1.54f\nimages=5\nslices=5\nunit=nm\nyunit=micron\nzunit=micron\nspacing=0.03\n"
    resolution = {"resolution": (1 / 8, 1 / 0.01), "resolutionunit": "NONE"}
    tifffile.imwrite(tmp_path / "a.tif", EM, description=description.encode(), metadata=None, **resolution)
    assert open_volume(tmp_path / "a.tif").voxel_nm == pytest.approx((30, 10, 8))


def test_the_limit_of_pillow_is_lifted_for_our_own_reads_only(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # a quarter of a slice: an error elsewhere
    by_pillow(tmp_path / "a.tif", EM, False, "tiff_lzw")
    (tmp_path / "png").mkdir()
    for z, image in enumerate(EM):
        Image.fromarray(image).save(tmp_path / f"png/{z}.png")
    for name in ("a.tif", "png"):
        volume = open_volume(tmp_path / name)
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(lambda z, volume=volume: np.array_equal(volume[z], EM[z]), [0, 1, 2, 3] * 20))
        assert Image.MAX_IMAGE_PIXELS == 50
    with pytest.raises(ValueError), any_size():
        raise ValueError
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "png/0.png")


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_as_they_are_stored_whatever_orientation_is_stated(tmp_path, compression, orientation):
    path = tmp_path / "turned.tif"
    first, *others = map(Image.fromarray, EM)
    first.save(path, save_all=True, append_images=others, compression=compression, tiffinfo={274: orientation})
    np.testing.assert_array_equal(read(path), EM)
