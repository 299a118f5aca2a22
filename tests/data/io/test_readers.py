"""Every format opens as the same lazy `z y x` volume, and every bad file is refused in one sentence."""

import json
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
import tensorstore as ts
import tifffile
from PIL import Image

from dualrel_jax.data.io.readers.base import unreadable
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.errors import InputError

SHAPE = (12, 20, 30)
VOXEL = (30.0, 8.0, 4.6)


def stack(dtype="uint8", shape=SHAPE):
    values = np.random.default_rng(0).integers(0, 120, shape)
    return values > 60 if dtype == "bool" else values.astype(dtype)


def opened(path, **options):
    return open_volume(path, verbose=False, **options)


def refused(path, *words, **options):
    """`open_volume` refuses, in one line that names the file and each of `words`."""
    with pytest.raises(InputError) as caught:
        opened(path, **options)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in (Path(path).name, *words)), message


# ---- formats


def imagej(path, array, **options):
    resolution = (1 / VOXEL[2], 1 / VOXEL[1])
    metadata = {"axes": "ZYX", "spacing": VOXEL[0], "unit": "nm"}
    tifffile.imwrite(path, array, imagej=True, resolution=resolution, metadata=metadata, **options)


def ome(path, array, **options):
    sizes = {f"PhysicalSize{axis}": size / 1000 for axis, size in zip("ZYX", VOXEL, strict=True)}
    tifffile.imwrite(path, array, ome=True, metadata={"axes": "ZYX", **sizes}, **options)


def slice_at_a_time(path, array):
    with tifffile.TiffWriter(path) as tif:
        for image in array:
            tif.write(image, compression="zlib", contiguous=False)


def plain_pages(path, array, **options):
    with tifffile.TiffWriter(path) as tif:
        for image in array:
            tif.write(image, metadata=None, contiguous=False, **options)


def pillow(path, array):
    first, *others = map(Image.fromarray, array)
    first.save(path, save_all=True, append_images=others, compression="tiff_lzw")


TIFFS = {
    "one block": tifffile.imwrite,
    "big endian": lambda path, array: tifffile.imwrite(path, array, byteorder=">"),
    "zlib, predictor": lambda path, array: tifffile.imwrite(path, array, compression="zlib", predictor=True),
    "tiles": lambda path, array: tifffile.imwrite(path, array, tile=(16, 16)),
    "unnamed axes, ImageJ": lambda path, array: tifffile.imwrite(path, array, imagej=True),
    "ImageJ": imagej,
    "ImageJ, zlib": lambda path, array: imagej(path, array, compression="zlib"),
    "OME": ome,
    "OME, zlib": lambda path, array: ome(path, array, compression="zlib"),
    "slice at a time": slice_at_a_time,
    "plain pages": plain_pages,
    "LZW": pillow,
}


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("kind", TIFFS)
def test_tiff(tmp_path, kind, dtype):
    array = stack(dtype)
    TIFFS[kind](tmp_path / "a.tif", array)
    volume = opened(tmp_path / "a.tif")
    assert volume.shape == SHAPE and volume.dtype == dtype and volume.dtype.isnative
    np.testing.assert_array_equal(volume[:], array)
    np.testing.assert_array_equal(volume[7, 3:9, 10:], array[7, 3:9, 10:])
    assert ("memory-mapped" in volume.format) == (kind in ("one block", "big endian", "ImageJ", "OME") or "unn" in kind)
    known = kind.startswith(("ImageJ", "OME"))
    assert volume.voxel_nm == (pytest.approx(VOXEL) if known else None)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int16", "uint32", "float32", "float64"])
@pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.h5", "a.zarr"])
def test_types(tmp_path, name, dtype):
    array, path = stack(dtype), tmp_path / name
    if name == "a.tif":
        tifffile.imwrite(path, array, compression="zlib")
    elif name == "a.npy":
        np.save(path, array)
    elif name == "a.h5":
        h5py.File(path, "w").create_dataset("x", data=array).file.close()
    else:
        chunked(path, array, "zarr3")
    volume = opened(path)
    assert volume.dtype == dtype
    np.testing.assert_array_equal(volume[:], array)


def chunked(path, array, driver):
    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}}
    array = array.T if driver == "n5" else array
    store = ts.open(spec, create=True, dtype=array.dtype, shape=array.shape, chunk_layout=CHUNKS[array.ndim]).result()
    store.write(array).result()


CHUNKS = {ndim: ts.ChunkLayout(chunk_shape=[1] * (ndim - 3) + [8, 8, 8]) for ndim in (3, 4, 5)}


def attributes(path, **values):
    found = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found | values))


@pytest.mark.parametrize(
    ("driver", "file", "values"),
    [
        ("zarr", ".zattrs", {"resolution": VOXEL}),
        ("zarr3", "zarr.json", {"attributes": {"voxel_size": VOXEL}}),
        ("n5", "attributes.json", {"resolution": VOXEL[::-1]}),
        ("n5", "attributes.json", {"pixelResolution": {"dimensions": [0.0046, 0.008, 0.03], "unit": "um"}}),
        ("n5", "attributes.json", {}),
    ],
)
def test_chunked(tmp_path, driver, file, values):
    array = stack("uint16")
    for path in (tmp_path / "data", tmp_path / "group/volumes/raw"):
        chunked(path, array, driver)
        attributes(path / file, **values)
    for path in (tmp_path / "data", tmp_path / "group/volumes/raw"):
        volume = opened(path)
        np.testing.assert_array_equal(volume[:], array)
        assert volume.voxel_nm == (pytest.approx(VOXEL) if values else None)
    (tmp_path / "group").rename(tmp_path / f"one.{driver.removesuffix('3')}")
    assert opened(tmp_path / f"one.{driver.removesuffix('3')}").shape == SHAPE


@pytest.mark.parametrize("driver", ["zarr", "zarr3"])
def test_ome_zarr_takes_level_0_of_one_channel(tmp_path, driver):
    array, path = stack(), tmp_path / "a.ome.zarr"
    chunked(path / "s0", array[None, None], driver)
    chunked(path / "s1", array[None, None, :, ::2, ::2], driver)
    unit = {"type": "space", "unit": "micrometer"}
    axes = [{"name": "t"}, {"name": "c"}, *({"name": name, **unit} for name in "zyx")]
    scales = [[1, 1, 0.03, 0.008 * step, 0.0046 * step] for step in (1, 2)]
    levels = [
        {"path": f"s{i}", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        for i, scale in enumerate(scales)
    ]
    scales = {"multiscales": [{"axes": axes, "datasets": levels}]}
    if driver == "zarr":
        attributes(path / ".zattrs", **scales)
    else:
        attributes(path / "zarr.json", zarr_format=3, node_type="group", attributes={"ome": scales})
    volume = opened(path)
    np.testing.assert_array_equal(volume[:], array)
    assert volume.voxel_nm == pytest.approx(VOXEL)
    assert opened(path / "s1").voxel_nm == pytest.approx((30, 16, 9.2))


def test_hdf5(tmp_path):
    path, array = tmp_path / "a.h5", stack()
    with h5py.File(path, "w") as file:
        file.create_dataset("volumes/raw", data=array, chunks=(4, 8, 8), compression="gzip")
        file["volumes/raw"].attrs["resolution"] = VOXEL
        file["note"] = "text"
    assert opened(path).voxel_nm == VOXEL
    np.testing.assert_array_equal(opened(path)[3], array[3])
    with h5py.File(path, "a") as file:
        file.create_dataset("labels", data=array).attrs["element_size_um"] = [0.03, 0.008, 0.0046]
    refused(path, "labels", "volumes/raw", "12 x 20 x 30")
    with pytest.raises(InputError, match=r"a\.h5: has no data set raw.*volumes/raw"):
        opened(f"{path}:raw")
    assert opened(f"{path}:/labels").voxel_nm == pytest.approx(VOXEL)
    refused(f"{path}:note", "0-D")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_folder_is_in_natural_order(tmp_path, suffix):
    array = stack()
    for z, image in enumerate(array):
        Image.fromarray(image).save(tmp_path / f"slice{z}{suffix}")
    (tmp_path / f".hidden{suffix}").touch()
    (tmp_path / "Thumbs.db").touch()
    volume = opened(tmp_path)
    assert volume.names[2] == f"slice2{suffix}"
    np.testing.assert_array_equal(volume[:], array)


def test_png_kinds(tmp_path):
    mask = 255 * (stack()[0] > 60).astype(np.uint8)
    grey = Image.fromarray(mask)
    for z, mode in enumerate(["RGBA", "L", "1", "LA", "P", "RGB"]):  # Lucchi++ has RGBA; tools shrink to 1 bit
        grey.convert(mode).save(tmp_path / f"{z}.png")
    volume = opened(tmp_path)
    assert volume.dtype == np.uint8 and all((image == mask).all() for image in volume)
    deep = stack("uint16")[0] * 300
    Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(opened(tmp_path / "deep.png")[0], deep)
    refused(tmp_path, "deep.png", "20 x 30 uint16", "20 x 30 uint8")


def test_the_odd_slice_of_a_folder_is_blamed_even_if_it_is_the_first(tmp_path):
    for z, image in enumerate((stack()[0, :, 1:], *stack()[1:4])):
        Image.fromarray(image).save(tmp_path / f"{z}.png")
    refused(tmp_path, "0.png: is 20 x 29 uint8; expected 20 x 30 uint8 as in 1.png")


def test_two_dimensional_images_are_one_slice(tmp_path):
    image = stack()[0]
    np.save(tmp_path / "a.npy", image)
    tifffile.imwrite(tmp_path / "a.tif", image, resolution=(1e7 / 4.6, 1e7 / 8), resolutionunit="CENTIMETER")
    for name in ("a.npy", "a.tif"):
        volume = opened(tmp_path / name)
        assert volume.shape == (1, 20, 30)
        np.testing.assert_array_equal(volume[0], image)
    assert str(volume.voxel_nm) == "(nan, 8.0, 4.6)" and "voxel ? x 8 x 4.6 nm" in volume.describe()
    tifffile.imwrite(tmp_path / "dpi.tif", image, resolution=(300, 300), resolutionunit="INCH")
    assert opened(tmp_path / "dpi.tif").voxel_nm is None


@pytest.mark.parametrize("unit", ["micron", "um", "\u00b5m", "\\u00B5m", "nm", "mm", "pixel"])
def test_units_of_imagej(tmp_path, unit):
    scale = {"nm": 1, "mm": 1e-6}.get(unit, 1e-3)
    description = f"ImageJ=1.54f\nimages=12\nslices=12\nunit={unit}\nspacing={30 * scale}\n".encode()
    resolution = (1 / (4.6 * scale), 1 / (8 * scale))
    plain = {"metadata": None, "resolutionunit": "NONE", "resolution": resolution}
    tifffile.imwrite(tmp_path / "a.tif", stack(), description=description, **plain)
    assert opened(tmp_path / "a.tif").voxel_nm == (None if unit == "pixel" else pytest.approx(VOXEL))


@pytest.mark.parametrize("kind", ["zlib, predictor", "plain pages", "tiles", "LZW", "zarr", "h5"])
def test_threads_read_what_one_reads(tmp_path, kind):
    array, path = stack("uint16", (40, 64, 80)), tmp_path / "a.tif"
    if kind == "zarr":
        chunked(tmp_path / "a.zarr", array, "zarr3")
        path = tmp_path / "a.zarr"
    elif kind == "h5":
        path = tmp_path / "a.h5"
        h5py.File(path, "w").create_dataset("x", data=array, chunks=(8, 16, 16), compression="gzip").file.close()
    else:
        TIFFS[kind](path, array)
    volume = opened(path)
    zs = np.random.default_rng(0).integers(0, 40, 400).tolist()
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda z: np.array_equal(volume[z], array[z]), zs))


# ---- bad files


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", [kind for kind in TIFFS if not kind.startswith("OME")])
def test_truncated_tiff(tmp_path, caplog, kind, share):
    path, array = tmp_path / "a.tif", stack(shape=(12, 100, 100))
    TIFFS[kind](path, array)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    refused(path, *([] if share == 0 else ["is truncated (the file has"]))
    assert not caplog.records


@pytest.mark.parametrize("kind", ["OME", "OME, zlib"])
def test_truncated_ome_tiff_is_refused_or_whole(tmp_path, kind):
    path, array = tmp_path / "a.tif", stack(shape=(12, 100, 100))
    TIFFS[kind](path, array)
    whole = path.read_bytes()
    for share in (0.2, 0.5, 0.8):
        path.write_bytes(whole[: int(len(whole) * share)])
        refused(path)


DENIED = (PermissionError(13, "Permission denied"), ValueError("PERMISSION_DENIED: Error opening local file"))


@pytest.mark.parametrize("error", DENIED)
@pytest.mark.parametrize("reader", ["read_npy", "read_slices"])
def test_what_may_not_be_read_is_no_damage(tmp_path, monkeypatch, reader, error):
    """tensorstore's errors have no type of their own."""

    def denied(*_, **__):
        raise error

    np.save(tmp_path / "a.npy", stack())
    Image.fromarray(stack()[0]).save(tmp_path / "a.png")
    volume = opened(tmp_path / "a.npy")
    object.__setattr__(volume, "_read", denied)
    with pytest.raises(InputError, match=r"a.npy: you may not read it; expected permission .*chmod u\+r"):
        volume[0]
    monkeypatch.setattr(np, "load", denied)
    monkeypatch.setattr(Image, "open", denied)
    refused(tmp_path / ("a.npy" if reader == "read_npy" else "a.png"), "you may not read it")


def test_the_file_that_may_not_be_read_is_named_also_where_a_library_hides_it(tmp_path, monkeypatch):
    chunk = ValueError('PERMISSION_DENIED: Error opening local file "/em.zarr/0/3": Error reading "0/3" [os_error=13]')
    assert str(unreadable("em.zarr", chunk, "")).startswith("/em.zarr/0/3: you may not read it;")
    (tmp_path / "a.nii").write_bytes(b"")
    assert str(unreadable(tmp_path / "a.nii", ValueError("file type"), "is damaged")).endswith("a.nii: is damaged")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert "you may not read it" in str(unreadable(tmp_path / "a.nii", ValueError("file type"), "is damaged"))


def test_damaged_page_is_named_when_it_is_read(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stack(), compression="zlib")
    with tifffile.TiffFile(path) as tif:
        start, count = tif.pages[7].dataoffsets[0], tif.pages[7].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[start : start + count] = bytes(count)
    path.write_bytes(content)
    volume = opened(path)
    np.testing.assert_array_equal(volume[6], stack()[6])
    with pytest.raises(InputError, match=r"a\.tif: slice 7 cannot be read"):
        volume[7]


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_a_png_of_16_bit_colours_is_not_cut_to_8_bits(tmp_path, colour, channels):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 4, 4, 16, colour, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x01\x02" * channels * 4) * 4)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")
    (tmp_path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    refused(tmp_path, "16 bits in each of several channels; expected one channel")


def test_damaged_png_is_named(tmp_path):
    for z in range(3):
        Image.fromarray(stack()[z]).save(tmp_path / f"{z}.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "2.png").read_bytes()[:150])
    volume = opened(tmp_path)
    with pytest.raises(InputError, match=r"2\.png: is damaged"):
        volume[2]
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1\.png: is not a readable image"):
        opened(tmp_path)


def test_colour_is_refused_unless_its_channels_are_equal(tmp_path):
    colour = np.random.default_rng(0).integers(0, 255, (3, 20, 30, 3), np.uint8)
    tifffile.imwrite(tmp_path / "rgb.tif", colour, photometric="rgb")
    refused(tmp_path / "rgb.tif", "colour image; expected grey")
    (tmp_path / "slices").mkdir()
    Image.fromarray(colour[0]).save(tmp_path / "slices/0.png")
    with pytest.raises(InputError, match=r"0\.png: is a colour image; expected grey"):
        opened(tmp_path / "slices")
    np.save(tmp_path / "rgb.npy", colour[0])
    refused(tmp_path / "rgb.npy", "colour")
    tifffile.imwrite(tmp_path / "channels.tif", colour[..., 0], imagej=True, metadata={"axes": "CYX"})
    refused(tmp_path / "channels.tif", "CYX", "channels.tif:Channel 0")
    colour[:] = colour[..., :1]
    tifffile.imwrite(tmp_path / "grey.tif", colour, photometric="rgb", compression="zlib")
    np.testing.assert_array_equal(opened(tmp_path / "grey.tif")[:], colour[..., 0])


def test_more_axes_and_other_contents(tmp_path):
    four = np.zeros((2, 3, 20, 30), np.uint8)
    np.save(tmp_path / "four.npy", four)
    refused(tmp_path / "four.npy", "4-D", "2 x 3 x 20 x 30")
    tifffile.imwrite(tmp_path / "four.tif", four, imagej=True)
    refused(tmp_path / "four.tif", "YX", "2 x 3 x 20 x 30")
    np.save(tmp_path / "complex.npy", stack().astype(complex))
    refused(tmp_path / "complex.npy", "complex128")
    with tifffile.TiffWriter(tmp_path / "two.tif") as tif:
        tif.write(stack())
        tif.write(stack()[:, :10])
    refused(tmp_path / "two.tif", "12 x 20 x 30, 12 x 10 x 30")


def test_files_that_are_not_what_their_names_say(tmp_path):
    for name in ("a.tif", "a.npy", "a.h5", "a.png"):
        (tmp_path / name).write_bytes(b"something else entirely")
        refused(tmp_path / name)
    np.save(tmp_path / "cut.npy", stack())
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:500])
    refused(tmp_path / "cut.npy", "cannot be opened")
    (tmp_path / "bad.zarr").mkdir()
    (tmp_path / "bad.zarr/.zarray").write_text("{")
    refused(tmp_path / "bad.zarr")


def test_folders_that_are_no_stack(tmp_path):
    refused(tmp_path, "holds no slices;")
    for name in ("a.SVG", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "raw").mkdir()
    refused(tmp_path, "no slices, but .SVG, .txt files and the folder raw", "File > Save As > Image Sequence")
    (tmp_path / "a.zarr").mkdir()
    refused(tmp_path / "a.zarr", "0 arrays")
    Image.fromarray(stack()[0]).save(tmp_path / "0.png")
    Image.fromarray(stack()[0]).save(tmp_path / "1.tif")
    refused(tmp_path, "PNG and TIFF files")
    (tmp_path / "0.png").unlink()
    tifffile.imwrite(tmp_path / "2.tif", stack())
    with pytest.raises(InputError, match=r"2\.tif: holds 12 pages"):
        opened(tmp_path)
