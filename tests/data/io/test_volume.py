"""Volumes index as arrays do, intensities become 8 bit, and what is wrong is said."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualrel_jax.data.io import volume as volume_lib
from dualrel_jax.data.io.volume import Volume, intensity_range, open_volume, to_uint8
from dualrel_jax.errors import InputError

VOXEL = (30.0, 8.0, 4.6)
REAL = Path(os.environ.get("DUALREL_DATA") or "no real data")


def stack(dtype="uint8"):
    values = np.random.default_rng(0).integers(0, 120, (12, 20, 30))
    return values > 60 if dtype == "bool" else values.astype(dtype)


def opened(path, **options):
    return open_volume(path, verbose=False, **options)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_indexing_is_that_of_numpy(data):
    array = stack()
    volume = Volume.from_array(array, VOXEL)
    z = data.draw(st.integers(-12, 11) | st.slices(12))
    y, x = (data.draw(st.builds(slice, *2 * [st.none() | st.integers(-40, 40)])) for _ in "yx")
    for index in (z, (z, y), (z, y, x)):
        np.testing.assert_array_equal(volume[index], array[index])


def test_volume_is_a_read_only_sequence_of_slices():
    array = stack()
    volume = Volume.from_array(array, VOXEL, "mine")
    assert len(volume) == 12 and (np.stack(list(volume)) == array).all()
    with pytest.raises(IndexError):
        volume[12]
    with pytest.raises(TypeError, match="y0:y1"):
        volume[0, 3]
    with pytest.raises(ValueError, match="read-only"):
        volume[0][:] = 0
    array[:] = 1
    assert volume.describe() == "mine: array in memory, axes z y x, 12 x 20 x 30, uint8, voxel 30 x 8 x 4.6 nm"


def test_what_was_understood_is_printed_and_the_voxel_size_can_be_given(tmp_path, capsys):
    np.save(tmp_path / "a.npy", stack())
    assert open_volume(str(tmp_path / "a.npy"), voxel_nm=[5, 5, 5]).voxel_nm == (5.0, 5.0, 5.0)
    assert "axes z y x, 12 x 20 x 30, uint8, voxel 5 x 5 x 5 nm" in capsys.readouterr().out
    for wrong in ([5, 5], [5, 0, 5], [5, float("nan"), 5]):
        with pytest.raises(InputError, match="voxel_nm.*three sizes"):
            open_volume(tmp_path / "a.npy", voxel_nm=wrong)


def test_missing_path_names_the_nearest_folder(tmp_path):
    (tmp_path / "lucchi").mkdir()
    (tmp_path / "lucchi/training.tif").touch()
    with pytest.raises(InputError, match="trainig.tif: does not exist.*/lucchi, with training.tif"):
        opened(tmp_path / "lucchi/more/trainig.tif")


def test_unsupported_type_lists_the_supported(tmp_path):
    (tmp_path / "a.czi").touch()
    with pytest.raises(InputError, match=r"a\.czi.*'\.czi'.*JPEG.*zarr.*n5.*TIFF.*HDF5.*\.npy.*\.nii\.gz.*Bio-Formats"):
        opened(tmp_path / "a.czi")


def test_hot_pixels_do_not_move_the_range():
    array = np.random.default_rng(0).normal(1000, 50, (40, 64, 64)).astype(np.float32)
    clean = intensity_range(Volume.from_array(array))
    array[:, 5, 5] = 1e9
    array[:, 6, 6] = -1e9
    assert intensity_range(Volume.from_array(array)) == pytest.approx(clean, rel=0.02)
    small = np.uint8([[10, 20, 30, 40, 255]])
    assert intensity_range(Volume.from_array(small)) == (20, 40)


def test_range_reads_at_most_16_slices_spread_over_those_asked_for():
    ramp = np.arange(100, dtype=np.uint8)[:, None, None] * np.ones((1, 8, 8), np.uint8)
    volume, seen = Volume.from_array(ramp), []
    spy = Volume(*list(vars(volume).values())[:5], lambda z, y, x: seen.append(z) or ramp[z, y, x])
    low, high = intensity_range(spy, range(20, 80))
    assert len(seen) == 16 and (min(seen), max(seen)) == (20, 79) and (low, high) == (20, 79)
    assert intensity_range(volume, [3]) == (3, 3)
    assert intensity_range(Volume.from_array(stack("bool"))) == (0, 1)


def test_range_of_large_slices_is_read_from_squares_of_them(monkeypatch):
    monkeypatch.setattr(volume_lib, "_RANGE_WHOLE_PIXELS", 1000 * 1000)
    array = np.zeros((3, 1500, 5000), np.uint8)
    array[1, :, :1024] = (np.arange(1024) + 7 * np.arange(1500)[:, None]) % 199 + 20
    volume, read = Volume.from_array(array), []
    spy = Volume(*list(vars(volume).values())[:5], lambda z, y, x: read.append((y, x)) or array[z, y, x])
    # What has a single grey is left out: it would make 0 the black.
    assert intensity_range(spy) == (20, 218)
    assert len(read) == 3 * 16
    assert all(part.stop - part.start == 1024 for place in read for part in place)


def test_a_crop_is_a_volume():
    volume = Volume.from_array(stack("uint8"), (9, 4, 4), "mine")
    part = volume.crop(slice(2, 9), slice(1, None), slice(3, 5))
    np.testing.assert_array_equal(part[:], volume[:][2:9, 1:, 3:5])
    np.testing.assert_array_equal(part[1, 2:4, :1], volume[:][3, 3:5, 3:4])
    assert part.voxel_nm == (9, 4, 4) and part.shape == part[:].shape


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_to_uint8_maps_the_range_and_clips(dtype):
    image = np.array([[0, 10, 61, 110, 120]]).astype(dtype)
    np.testing.assert_array_equal(to_uint8(image, (10, 110)), [[0, 0, 130, 255, 255]])
    assert to_uint8(image, (10, 110)).dtype == np.uint8
    assert not to_uint8(image, (7, 7)).any()
    np.testing.assert_array_equal(image[0], [0, 10, 61, 110, 120])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_refused_with_the_next_step(tmp_path, bad):
    array = stack("float32")
    array[0, 3, 4] = bad
    np.save(tmp_path / "a.npy", array)
    volume = opened(tmp_path / "a.npy")
    with pytest.raises(InputError, match=r"a\.npy, slice 0: holds 1 pixels.*nan_to_num"):
        intensity_range(volume)
    with pytest.raises(InputError, match="mine: holds 1 pixels"):
        to_uint8(volume[0], (0, 1), "mine")
    assert intensity_range(volume, range(1, 12))[1] > 100


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data; set DUALREL_DATA")
def test_real_volumes():
    lucchi = opened(REAL / "lucchi/training.tif", voxel_nm=(5, 5, 5))
    labels = opened(REAL / "lucchi/training_groundtruth.tif")
    assert lucchi.shape == labels.shape == (165, 768, 1024) and lucchi.dtype == np.uint8
    assert set(np.unique(labels[80])) == {0, 255}
    low, high = intensity_range(lucchi, range(0, 128, 32))
    assert 0 < low < high < 255
    raw, mask = opened(REAL / "vnc/stack1/raw"), opened(REAL / "vnc/stack1/mitochondria")
    assert raw.shape == mask.shape == (20, 1024, 1024)
    assert raw.names[3] == "03.tif" and mask.names[3] == "03.png"
    assert raw[3].mean() > 50
