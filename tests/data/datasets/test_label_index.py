"""Which slice a mask belongs to, where a list and the names of its files both say so; voxel sizes of every volume."""

import numpy as np
import pytest
import tifffile
from tiny import config, volume

from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.errors import InputError

MASK = volume(24)[1].astype(np.uint8)


@pytest.mark.parametrize("listed", ["2,9,15", "15,2,9", "9"])
def test_a_list_of_slices_chooses_among_masks_named_by_them(own, listed):
    masks = {f"{z:04d}.png": MASK[z] for z in (2, 9, 15)}
    (part,) = load_dataset(own(masks, labelled_slices=listed)).train
    assert part.labelled_zs == tuple(sorted(map(int, listed.split(","))))
    for z in part.labelled_zs:
        assert np.array_equal(part.native_label_at(z), MASK[z])


@pytest.mark.parametrize("names", [["mask_1.png", "mask_2.png"], ["0003.png", "0010.png"]])
def test_a_list_that_does_not_name_the_files_goes_by_their_order(own, names):
    """They are only counted, or count from 1."""
    (part,) = load_dataset(own(dict(zip(names, MASK[[2, 9]], strict=True)), labelled_slices="2,9")).train
    assert part.labelled_zs == (2, 9)
    assert np.array_equal(part.native_label_at(9), MASK[9])


def test_a_list_of_other_slices_needs_as_many(own):
    with pytest.raises(InputError, match="names 1 slices, but .* has 2; expected as many"):
        load_dataset(own({"mask_1.png": MASK[2], "mask_2.png": MASK[9]}, labelled_slices="7"))


@pytest.mark.parametrize(
    ("voxel_nm", "sizes"),
    [
        ("30,8,8", [(30, 8, 8), (30, 8, 8), (20, 5, 5)]),  # that of a file comes first, of volumes without labels
        ("30,8,8;50,4,4;9,9,9", [(30, 8, 8), (50, 4, 4), (20, 5, 5)]),
    ],
)
def test_volumes_without_labels_may_have_a_voxel_size_of_their_own(own, tmp_path, voxel_nm, sizes):
    grey = np.random.default_rng(0).integers(0, 255, (6, 40, 48), np.uint8)
    tifffile.imwrite(tmp_path / "unknown.tif", grey)
    stated = {"spacing": 0.02, "unit": "um"}
    tifffile.imwrite(tmp_path / "stated.tif", grey, imagej=True, resolution=(200, 200), metadata=stated)
    further = f"{tmp_path / 'unknown.tif'},{tmp_path / 'stated.tif'}"
    parts = load_dataset(own(MASK, unlabelled=further, voxel_nm=voxel_nm, pixel_nm=8.0)).train
    assert [tuple(round(nm) for nm in part.image.voxel_nm) for part in parts] == sizes
    with pytest.raises(InputError, match="one entry for all, or one for each"):
        load_dataset(own(MASK, unlabelled=further, voxel_nm="30,8,8;50,4,4"))


def test_a_test_volume_of_the_training_has_the_voxel_size_it_had_there(tmp_path):
    image, mask = volume(12)
    stated = {"spacing": 0.02, "unit": "um"}
    for name, array in (("image", image), ("label", mask.astype(np.uint8))):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, imagej=True, resolution=(200, 200), metadata=stated)
    paths = {key: str(tmp_path / f"{key.removeprefix('test_')}.tif") for key in ("image", "label")}
    tests = {f"test_{key}": path for key, path in paths.items()}
    for given, expected in (("", (10, 10, 10)), ("20,5,5", (20, 5, 5))):
        data = config("own", "all", **paths, **tests, voxel_nm="10,10,10", test_voxel_nm=given)
        (part,) = load_dataset(data).test
        assert tuple(round(nm) for nm in part.image.voxel_nm) == expected
