import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from dualrel_jax.data.datasets.appearance import Appearance, appearance
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.data.phantom import phantom

PIXEL_NM = (16.0, 16.0)


@pytest.fixture(scope="module")
def looks():
    """The built-in volumes as a training sees them: (name, split) -> appearance."""
    return {
        (name, split): appearance(phantom(name, split)[0], PIXEL_NM)
        for name in ("phantom", "phantom_b")
        for split in ("train", "test")
    }


@pytest.mark.parametrize("name", ["phantom", "phantom_b"])
def test_another_block_of_the_same_tissue_looks_alike(looks, name):
    assert not looks[name, "test"].difference(looks[name, "train"])


def test_another_microscope_is_told_by_its_voxels(looks):
    different = looks["phantom_b", "train"].difference(looks["phantom", "train"])
    assert different == "its voxels are 50 x 8 x 8 nm, those of the training 30 x 10 x 10 nm"


def test_without_voxel_sizes_greys_and_detail_decide(looks):
    a, b = (dataclasses.replace(looks[name, "train"], voxel_nm=None) for name in ("phantom", "phantom_b"))
    assert "grey values" in b.difference(a)
    unknown_z = dataclasses.replace(a, voxel_nm=(float("nan"), 10.0, 10.0))
    assert not unknown_z.difference(looks["phantom", "train"])
    image = phantom("phantom", "train")[0][:8]
    fine = appearance(Volume.from_array(image), None)
    smooth = appearance(Volume.from_array(ndimage.gaussian_filter(image, (0, 2, 2))), None)
    assert "detail" in dataclasses.replace(smooth, greys=fine.greys).difference(fine)


def test_black_margins_and_other_units_of_intensity_change_nothing():
    image = phantom("phantom", "train")[0][:8]
    plain = appearance(Volume.from_array(image), None)
    padded = np.pad(image, ((0, 0), (60, 0), (0, 60)))
    assert not appearance(Volume.from_array(padded), None).difference(plain)
    assert not appearance(Volume.from_array(image.astype(np.uint16) * 150 + 3000), None).difference(plain)


@pytest.mark.parametrize("name", ["phantom", "phantom_b"])
def test_an_inverted_volume_is_told_whatever_its_greys(looks, name):
    image = phantom(name, "test")[0]
    inverted = appearance(Volume.from_array(255 - image[:], image.voxel_nm), PIXEL_NM)
    assert all(inverted.is_inverse_of(known) and known.is_inverse_of(inverted) for known in looks.values())
    assert not any(a.is_inverse_of(b) for a in looks.values() for b in looks.values())
    padded = np.pad(image[:8], ((0, 0), (60, 0), (0, 60)))
    assert not appearance(Volume.from_array(padded, image.voxel_nm), PIXEL_NM).is_inverse_of(looks[name, "train"])
    blank = appearance(Volume.from_array(np.full((4, 20, 20), 7, np.uint8), (30, 10, 10)), PIXEL_NM)
    assert not inverted.is_inverse_of(blank)


def test_records_of_older_runs_are_read_and_call_nothing_inverted(looks):
    record = dataclasses.asdict(looks["phantom", "train"])
    assert Appearance.from_json(record) == looks["phantom", "train"]
    del record["dark_lines"]
    assert not dataclasses.replace(looks["phantom", "test"], dark_lines=-1.0).is_inverse_of(
        Appearance.from_json(record)
    )


def test_a_volume_of_a_single_grey_is_no_error(looks):
    empty = appearance(Volume.from_array(np.full((4, 20, 20), 7, np.uint8), (30, 10, 10)), PIXEL_NM)
    assert empty.difference(looks["phantom", "train"])
