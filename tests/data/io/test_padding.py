"""What is padding and what is tissue, and how tissue is mirrored into padding."""

import numpy as np
import pytest
from scipy import ndimage

from dualrel_jax.data.io.padding import away_from_padding, mirror_tissue, padding, tissue_values
from dualrel_jax.data.io.volume import Volume, intensity_range

TISSUE = np.random.default_rng(0).integers(40, 220, (90, 120)).astype(np.uint8)


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("margins", [((12, 0), (0, 0)), ((5, 9), (30, 2)), ((0, 0), (0, 17))])
def test_margins_of_one_grey_are_padding(value, margins):
    image = np.pad(TISSUE, margins, constant_values=value)
    expected = np.pad(np.zeros(TISSUE.shape, bool), margins, constant_values=True)
    assert np.all(padding(image)[expected]) and padding(image)[~expected].mean() < 0.002  # tissue of that very grey
    assert not padding(TISSUE).any()


def test_corners_of_a_rotated_slice_are_padding():
    image = ndimage.rotate(TISSUE, 15, order=0)
    beyond = ndimage.rotate(np.ones(TISSUE.shape), 15, order=0) == 0
    assert (padding(image) != beyond).mean() < 0.002
    mirrored = mirror_tissue(image, padding(image))
    assert (mirrored == 0).mean() < 0.001 and np.array_equal(mirrored[~beyond], image[~beyond])


def test_saturated_tissue_inside_a_slice_and_small_areas_are_no_padding():
    image = TISSUE.copy()
    image[30:60, 30:70] = 255  # a vessel
    image[:4, :20] = 0  # less than 256 pixels at the border
    assert not padding(image).any()


def test_frames_are_filled_as_a_mirror_would():
    framed = np.pad(TISSUE, 25)
    np.testing.assert_array_equal(mirror_tissue(framed, padding(framed)), np.pad(TISSUE, 25, mode="symmetric"))
    strip = np.pad(TISSUE, ((0, 0), (300, 0)))  # wider than the tissue
    np.testing.assert_array_equal(mirror_tissue(strip, padding(strip)), np.pad(TISSUE, ((0, 0), (300, 0)), "symmetric"))


def test_a_slice_without_tissue_stays():
    nothing = np.full((20, 30), 7, np.uint8)
    assert padding(nothing).all()
    np.testing.assert_array_equal(mirror_tissue(nothing, padding(nothing)), nothing)
    np.testing.assert_array_equal(tissue_values(nothing, 10), [7] * 6)


def test_padding_does_not_widen_the_grey_range():
    stack = np.stack([np.pad(TISSUE, 40)] * 3)
    assert intensity_range(Volume.from_array(stack)) == intensity_range(Volume.from_array(np.stack([TISSUE] * 3)))


def test_a_filter_sees_nothing_of_padding_where_tissue_is_left():
    image = np.random.default_rng(0).integers(1, 255, (60, 80), np.uint8)
    assert away_from_padding(image, 3).all()
    padded = np.pad(image, ((0, 0), (20, 0)))
    wanted = np.zeros(padded.shape, bool)
    wanted[:, 20 + 3 + 2 :] = True  # the reach, and two pixels that a rotation may have mixed with padding
    np.testing.assert_array_equal(away_from_padding(padded, 2.5), wanted)
    assert not away_from_padding(np.full((40, 40), 128, np.uint8), 3).any()
