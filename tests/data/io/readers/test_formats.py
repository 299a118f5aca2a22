"""Formats of optional libraries and Imaris: axes, voxel size, types, labels, in files that the libraries make."""

import sys

import h5py
import numpy as np
import pytest
from PIL import Image

from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.errors import InputError

SHAPE = (4, 12, 16)
EM = np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)
VOXEL = (30.0, 10.0, 8.0)


def check(path, voxel_nm=VOXEL, array=EM):
    volume = open_volume(path, verbose=False)
    assert volume.dtype == array.dtype and volume.shape == array.shape
    np.testing.assert_array_equal(volume[:], array)
    np.testing.assert_array_equal(volume[2, 3:7, 5:9], array[2, 3:7, 5:9])
    assert volume.voxel_nm == (voxel_nm and pytest.approx(voxel_nm, nan_ok=True))
    return volume.format


def refused(path, *words):
    with pytest.raises(InputError) as caught:
        open_volume(path, verbose=False)
    message = str(caught.value)
    assert "\n" not in message and all(word in message for word in (path.name, *words)), message


# ---- NIfTI


def nifti(path, array_xyz, sizes_xyz, unit, **affine):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(array_xyz, affine.get("affine", np.diag([*sizes_xyz, 1])))
    image.header.set_zooms((*sizes_xyz, *[1] * (array_xyz.ndim - 3)))
    image.header.set_xyzt_units(unit, "sec")
    nibabel.save(image, path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ"])
@pytest.mark.parametrize(
    ("unit", "nm", "stated"),
    [
        ("micron", 1e-3, VOXEL),
        ("mm", 1e-6, VOXEL),
        ("unknown", 1, VOXEL),
        ("unknown", 1e-3, VOXEL),
        ("unknown", 1e-6, VOXEL),
        ("unknown", 1e3, None),
    ],
)
def test_nifti_counts_x_first_and_states_its_unit(tmp_path, name, unit, nm, stated):
    nifti(tmp_path / name, EM.T, [size * nm for size in VOXEL[::-1]], unit)
    title = check(tmp_path / name, stated)
    assert title.startswith("NIfTI") and ("read whole" in title) == name.lower().endswith("gz")


def test_nifti_without_a_size_with_a_time_axis_and_turned(tmp_path):
    nifti(tmp_path / "ones.nii", EM.T, (1, 1, 1), "mm")
    check(tmp_path / "ones.nii", None)
    nifti(tmp_path / "wrong.nii", EM.T, (8, 10, 30), "mm")  # as it states; `predict` and `train` refuse such voxels
    check(tmp_path / "wrong.nii", (30e6, 10e6, 8e6))
    nifti(tmp_path / "time.nii", EM.T[..., None], (0.008, 0.01, 0.03), "micron")
    check(tmp_path / "time.nii")
    nifti(tmp_path / "times.nii", np.stack([EM.T] * 2, -1), (0.008, 0.01, 0.03), "micron")
    refused(tmp_path / "times.nii", "x y z t")
    turned = np.diag([0.008, 0.01, 0.03, 1])[[2, 0, 1, 3]]
    nifti(tmp_path / "turned.nii", EM.T, (0.008, 0.01, 0.03), "micron", affine=turned)
    assert "not as its affine turns them" in check(tmp_path / "turned.nii")


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32", ">i2"])
def test_types_of_nifti(tmp_path, dtype):
    array = (EM.astype(dtype) * 7).astype(dtype)
    nifti(tmp_path / "a.nii.gz", array.T, (0.008, 0.01, 0.03), "micron")
    check(tmp_path / "a.nii.gz", array=array.astype(np.dtype(dtype).newbyteorder("=")))


def test_values_that_nifti_scales_are_those_that_are_meant(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(EM.T / 2 + 1, np.eye(4))
    image.header.set_data_dtype(np.uint8)
    nibabel.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(open_volume(tmp_path / "a.nii", verbose=False)[:], EM / 2 + 1, atol=0.26)


# ---- NRRD


@pytest.mark.parametrize("encoding", ["raw", "gzip", "ascii"])
@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int16", ">u2", "float32"])
def test_nrrd_counts_x_first(tmp_path, encoding, detached, dtype):
    nrrd = pytest.importorskip("nrrd")
    array = EM.astype(dtype)
    header = {"encoding": encoding, "space directions": np.diag(VOXEL[::-1]) / 1e3, "space dimension": 3,
              "space units": ["um"] * 3, "kinds": ["domain"] * 3}  # fmt: skip
    path = tmp_path / ("a.nhdr" if detached else "a.nrrd")
    nrrd.write(str(path), array.T, header, detached_header=detached, index_order="F")
    title = check(path, array=array.astype(np.dtype(dtype).newbyteorder("=")))
    assert ("memory-mapped" in title) == (encoding == "raw" and not detached)


@pytest.mark.parametrize(
    ("fields", "voxel_nm"),
    [
        ({}, None),
        ({"spacings": [8, 10, 30]}, VOXEL),
        ({"spacings": [8, 10, 30], "units": ["nm"] * 3}, VOXEL),
        ({"spacings": [0.008, 0.01, 0.03], "units": ["microns"] * 3}, VOXEL),
        ({"spacings": [0.008, 0.01, np.nan], "units": ["um", "um", ""]}, (np.nan, 10, 8)),
        ({"spacings": [1, 1, 1]}, None),
        # 3D Slicer: mirrored axes, millimetres that are not stated
        ({"space": "left-posterior-superior", "space directions": np.diag([-8e-6, -1e-5, 3e-5])}, VOXEL),
    ],
)
def test_voxel_sizes_of_nrrd(tmp_path, fields, voxel_nm):
    nrrd = pytest.importorskip("nrrd")
    nrrd.write(str(tmp_path / "a.nrrd"), EM.T, fields)
    check(tmp_path / "a.nrrd", voxel_nm)


def test_nrrd_with_channels_or_without_numbers_is_refused(tmp_path):
    nrrd = pytest.importorskip("nrrd")
    directions = np.array([[np.nan] * 3, [0.008, 0, 0], [0, 0.01, 0], [0, 0, 0.03]])
    header = {"kinds": ["list", "domain", "domain", "domain"], "space directions": directions, "space dimension": 3,
              "space units": ["um"] * 3}  # fmt: skip
    nrrd.write(str(tmp_path / "one.seg.nrrd"), EM.T[None], header)
    check(tmp_path / "one.seg.nrrd")
    nrrd.write(str(tmp_path / "two.seg.nrrd"), np.stack([EM.T] * 2), header)
    refused(tmp_path / "two.seg.nrrd", "z y x c")
    nrrd.write(str(tmp_path / "cut.nrrd"), EM.T, {"encoding": "raw"})
    (tmp_path / "cut.nrrd").write_bytes((tmp_path / "cut.nrrd").read_bytes()[:-50])
    refused(tmp_path / "cut.nrrd", "cannot be opened")


# ---- orientation


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, -1, -1), (1, -1, 1)])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
def test_nifti_and_nrrd_state_one_orientation_and_turn_no_pixel(tmp_path, order, signs):
    nrrd = pytest.importorskip("nrrd")
    matrix = (np.diag(signs) * (8e-3, 1e-2, 3e-2))[list(order)]  # a column for each axis of the array
    affine = np.eye(4)
    affine[:3, :3] = matrix
    nifti(tmp_path / "a.nii", EM.T, (8e-3, 1e-2, 3e-2), "micron", affine=affine)
    nrrd.write(str(tmp_path / "ras.nrrd"), EM.T, {"space": "right-anterior-superior", "space directions": matrix.T})
    lps = {"space": "left-posterior-superior", "space directions": (np.diag((-1, -1, 1)) @ matrix).T}
    nrrd.write(str(tmp_path / "lps.nrrd"), EM.T, lps)
    volumes = [open_volume(tmp_path / name, verbose=False) for name in ("a.nii", "ras.nrrd", "lps.nrrd")]
    expected = "".join("LPI RAS".split()[signs[axis] > 0][order.index(axis)] for axis in range(3))
    expected += "?" * (expected in ("RAS", "LPS"))  # perhaps only the default of a library
    assert {volume.orientation for volume in volumes} == {expected}
    assert all(np.array_equal(volume[:], EM) for volume in volumes)


def test_orientation_that_is_not_stated(tmp_path):
    nibabel, nrrd = (pytest.importorskip(name) for name in ("nibabel", "nrrd"))
    nibabel.save(nibabel.Nifti1Image(EM.T, None), tmp_path / "a.nii")
    nrrd.write(str(tmp_path / "a.nrrd"), EM.T, {"space directions": np.diag([8.0, 10, 30]), "space dimension": 3})
    nrrd.write(str(tmp_path / "b.nrrd"), EM.T, {"space": "scanner-xyz", "space directions": np.diag([8.0, 10, 30])})
    assert not any(open_volume(tmp_path / name, verbose=False).orientation for name in ("a.nii", "a.nrrd", "b.nrrd"))


# ---- MRC


def mrc(path, array, voxel_angstrom=(80, 100, 300), **header):
    mrcfile = pytest.importorskip("mrcfile")
    with mrcfile.new(path, overwrite=True, compression=header.pop("compression", None)) as file:
        file.set_data(array)
        file.voxel_size = voxel_angstrom
        for key, value in header.items():
            file.header[key] = value


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float32"])
def test_mrc_in_angstrom(tmp_path, dtype):
    array = (EM // 2).astype(dtype)
    mrc(tmp_path / "a.mrc", array)
    assert "memory-mapped" in check(tmp_path / "a.mrc", array=array)
    mrc(tmp_path / "a.mrc.gz", array, compression="gzip")
    assert "read whole" in check(tmp_path / "a.mrc.gz", array=array)


def test_mrc_of_imod_and_with_other_axes(tmp_path):
    pytest.importorskip("mrcfile")
    extra = np.zeros(84, np.uint8)
    extra[40:48] = np.array([1146047817, 0], "i4").view(np.uint8)
    mrc(tmp_path / "imod.rec", EM.view(np.int8), extra2=extra.tobytes())
    check(tmp_path / "imod.rec")
    mrc(tmp_path / "turned.mrc", np.ascontiguousarray(EM.transpose(2, 1, 0)).astype("i2"), mapc=3, mapr=2, maps=1,
        cella=(16 * 80, 12 * 100, 4 * 300), mx=16, my=12, mz=4)  # fmt: skip
    assert "stored as x y z" in check(tmp_path / "turned.mrc", array=EM.astype("i2"))
    mrc(tmp_path / "unknown.mrc", EM.astype("i2"), (0, 0, 0))
    check(tmp_path / "unknown.mrc", None, EM.astype("i2"))


def test_mrc_that_is_no_stack_of_numbers(tmp_path):
    mrc(tmp_path / "complex.mrc", EM.astype("complex64"))
    refused(tmp_path / "complex.mrc", "complex64")
    mrc(tmp_path / "cut.mrc", EM.astype("i2"))
    (tmp_path / "cut.mrc").write_bytes((tmp_path / "cut.mrc").read_bytes()[:-50])
    refused(tmp_path / "cut.mrc")
    (tmp_path / "else.mrc").write_bytes(b"something else entirely")
    refused(tmp_path / "else.mrc")


# ---- Imaris


def imaris(path, channels=1, times=1, unit="um"):
    def text(item, **values):
        for name, value in values.items():
            item.attrs[name] = np.array([c.encode() for c in value], "S1")

    with h5py.File(path, "w") as file:
        for t in range(times):
            for c in range(channels):
                group = file.create_group(f"DataSet/ResolutionLevel 0/TimePoint {t}/Channel {c}")
                padded = np.zeros((4, 16, 32), np.uint8)
                padded[:, :12, :16] = EM + c
                group.create_dataset("Data", data=padded, chunks=(4, 8, 16), compression="gzip")
                text(group, ImageSizeX="16", ImageSizeY="12", ImageSizeZ="4")
        image = file.create_group("DataSetInfo/Image")
        text(image, X="16", Y="12", Z="4", Unit=unit, ExtMin0="1", ExtMin1="0", ExtMin2="0")
        text(image, ExtMax0="1.128", ExtMax1="0.12", ExtMax2="0.12")


def test_imaris_without_its_padding(tmp_path):
    imaris(tmp_path / "a.ims")
    assert check(tmp_path / "a.ims") == "Imaris, Channel 0"
    imaris(tmp_path / "two.ims", channels=2)
    refused(tmp_path / "two.ims", "2 channels", "two.ims:NAME", "Channel 0, Channel 1")
    np.testing.assert_array_equal(open_volume(f"{tmp_path}/two.ims:Channel 1", verbose=False)[:], EM + 1)
    with pytest.raises(InputError, match="has no Channel 7"):
        open_volume(f"{tmp_path}/two.ims:Channel 7", verbose=False)
    imaris(tmp_path / "times.ims", times=2)
    refused(tmp_path / "times.ims", "2 time points")


# ---- slices, and what is not read


def test_folder_of_jpeg_slices(tmp_path):
    for z, image in enumerate(EM):
        Image.fromarray(image).save(tmp_path / f"{z}.{'jpg' if z % 2 else 'JPEG'}", quality=100)
    volume = open_volume(tmp_path, verbose=False)
    assert volume.shape == SHAPE and volume.format == "folder of JPEG slices"
    assert abs(volume[:].astype(int) - EM).max() <= 4
    assert open_volume(tmp_path / "1.jpg", verbose=False).shape == (1, 12, 16)
    Image.fromarray(EM[0]).save(tmp_path / "9.png")
    refused(tmp_path, "JPEG and PNG")


@pytest.mark.parametrize(("name", "words"), [("a.czi", "Bio-Formats"), ("a.lif", "Bio-Formats"), ("a.zip", "unpack")])
def test_other_files_are_to_be_converted(tmp_path, name, words):
    (tmp_path / name).touch()
    refused(tmp_path / name, words)


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [("a.nii.gz", "nibabel", "nibabel"), ("a.nrrd", "nrrd", "pynrrd"), ("a.mrc", "mrcfile", "mrcfile")],
)
def test_a_missing_library_is_named_with_its_command(tmp_path, monkeypatch, name, module, package):
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, module, None)
    refused(tmp_path / name, f"pip install {package}`, or convert the file to TIFF")
