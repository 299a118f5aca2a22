import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
from scipy import ndimage
from shapes import ball, blobs
from skimage import morphology

from dualrel_jax.instances import segment

FACES = ndimage.generate_binary_structure(3, 1)


def rules(**changed):
    return ConfigDict({"hole_um3": 0.0, "neck_depth_nm": 0.0, "neck_ratio": 1.0, "min_um3": 0.0} | changed)


def one_component(seed, voxel_nm):
    """(mask of one of the blobs, distance to its background in nm)."""
    components, n = ndimage.label(blobs(seed))
    inside = np.pad(components == 1 + seed % n, 1)
    return inside, ndimage.distance_transform_edt(inside, sampling=voxel_nm).astype(np.float32)


def test_two_balls_that_touch_are_parted_unless_the_neck_is_wide():
    shape, voxel_nm = (12, 60, 100), (30, 10, 10)
    pair = ball(shape, voxel_nm, (180, 300, 300), 140) | ball(shape, voxel_nm, (180, 300, 540), 140)
    assert segment.label_instances(pair, voxel_nm, rules()).max() == 1
    parted = segment.label_instances(pair, voxel_nm, rules(neck_depth_nm=30.0))
    assert parted.max() == 2
    left, right = parted[6, 30, 30], parted[6, 30, 54]
    assert left != right and ((parted > 0) == pair).all()
    assert (parted[..., :40] != right).all() and (parted[..., 44:] != left).all()
    # The neck's radius is 72 nm, that of the balls 140 nm.
    assert segment.label_instances(pair, voxel_nm, rules(neck_depth_nm=90.0)).max() == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([3.3, 7.7, 12.1]), st.sampled_from([(5, 5, 5), (23, 7, 6)]))
def test_as_many_parts_as_h_maxima(seed, depth_nm, voxel_nm):
    """Reference: extended maxima of the distance by grey reconstruction."""
    inside, distance_nm = one_component(seed, voxel_nm)
    filled = morphology.reconstruction(np.maximum(distance_nm - depth_nm, 0), distance_nm, footprint=FACES)
    peaks = morphology.local_maxima(filled, connectivity=1) & (filled > 0)
    parts = segment.label_instances(inside, voxel_nm, rules(neck_depth_nm=depth_nm))
    assert parts.max() == max(ndimage.label(peaks)[1], 1)
    assert ((parts > 0) == inside).all()
    assert all(ndimage.label(parts == i)[1] == 1 for i in range(1, parts.max() + 1))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.35, 0.55, 0.85]), st.sampled_from([(5, 5, 5), (23, 7, 6)]))
def test_by_ratio_alone_as_many_parts_as_h_maxima_of_the_logarithm(seed, ratio, voxel_nm):
    inside, distance_nm = one_component(seed, voxel_nm)
    height = np.log(np.maximum(distance_nm, 1))
    filled = morphology.reconstruction(np.maximum(height + np.log(ratio), 0), height, footprint=FACES)
    peaks = morphology.local_maxima(filled, connectivity=1) & inside
    parts = segment.label_instances(inside, voxel_nm, rules(neck_depth_nm=1e-6, neck_ratio=ratio))
    assert parts.max() == max(ndimage.label(peaks)[1], 1)


def test_a_waist_of_a_thick_mitochondrion_is_no_neck():
    shape, voxel_nm = (60, 60, 100), (10, 10, 10)
    pair = ball(shape, voxel_nm, (300, 300, 300), 280) | ball(shape, voxel_nm, (300, 300, 640), 280)
    # The waist's radius is 222 nm of 280: deep enough, and yet wide.
    assert segment.label_instances(pair, voxel_nm, rules(neck_depth_nm=40.0)).max() == 2
    assert segment.label_instances(pair, voxel_nm, rules(neck_depth_nm=40.0, neck_ratio=0.6)).max() == 1


def test_what_the_volume_cuts_is_not_narrow_there():
    """A rod through the whole volume is one piece however deep seeds may be."""
    rod = np.zeros((30, 40, 40), bool)
    rod[:, 10:30, 10:30] = True
    assert segment.label_instances(rod, (5, 5, 5), rules(neck_depth_nm=1.0)).max() == 1
    assert segment.label_instances(np.ones((4, 4, 4), bool), (5, 5, 5), rules(neck_depth_nm=1.0)).max() == 1


def test_contact_by_a_corner_joins_nothing():
    mask = np.zeros((4, 4, 4), bool)
    mask[:2, :2, :2] = mask[2:, 2:, 2:] = True
    assert segment.label_instances(mask, (5, 5, 5), rules()).max() == 2


def test_holes_are_filled_up_to_their_size():
    voxel_nm = (20, 10, 10)  # 2e-6 um3
    mask = np.ones((9, 20, 20), bool)
    mask[4, 5, 5], mask[3:6, 10:14, 10:14] = False, False  # 1 and 48 voxels
    filled = segment.label_instances(mask, voxel_nm, rules(hole_um3=20e-6))
    assert filled[4, 5, 5] == 1 and not filled[3:6, 10:14, 10:14].any()
    assert segment.label_instances(mask, voxel_nm, rules(hole_um3=200e-6)).all()
    assert not mask[4, 5, 5], "the mask that was given must stay as it was"


def test_what_is_open_to_a_face_of_the_volume_is_no_hole():
    mask = np.ones((9, 20, 20), bool)
    mask[:2, 5, 5] = mask[4:6, 9, 9] = False
    filled = segment.label_instances(mask, (10, 10, 10), rules(hole_um3=200e-6))
    assert not filled[:2, 5, 5].any() and filled[4:6, 9, 9].all()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 60))
def test_numbers_follow_size(seed, smallest):
    voxels = np.random.default_rng(seed).integers(1, 100, 9)
    first = np.random.default_rng(seed + 1).permutation(9)
    number = segment.numbers_by_size(voxels, first, voxels >= smallest)
    kept = sorted((i for i in range(9) if voxels[i] >= smallest), key=lambda i: (-voxels[i], first[i]))
    assert number.dtype == np.uint16 and number.max(initial=0) == len(kept)
    assert [number[i] for i in kept] == list(range(1, len(kept) + 1))
    assert np.count_nonzero(number) == len(kept)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(0, 10**6),
    st.sampled_from([7, 10]),
    st.sampled_from([(20, 20, 20), (45, 9, 8)]),
    st.sampled_from([0.0, 8.0, 15.0]),
    st.sampled_from([1.0, 0.5]),
    st.sampled_from([0.0, 0.0001]),
)
def test_boxes_change_nothing(seed, side, voxel_nm, depth_nm, ratio, hole_um3):
    """Bit for bit, with windows that first are too small to know anything."""
    mask = blobs(seed) ^ (np.random.default_rng(seed).random((14, 24, 26)) < 0.02)
    settings = rules(neck_depth_nm=depth_nm, neck_ratio=ratio, hole_um3=hole_um3, min_um3=0.0002)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "HALO_NM", 45.0)
        in_boxes = segment.label_instances(mask, voxel_nm, settings, side)
    np.testing.assert_array_equal(in_boxes, segment.label_instances(mask, voxel_nm, settings))


def test_an_object_that_spans_many_boxes_is_one_and_a_neck_at_their_border_still_parts():
    shape, voxel_nm = (20, 20, 160), (20.0, 20.0, 20.0)
    z, y, x = np.indices(shape) - np.reshape((10, 10, 0), (3, 1, 1, 1))
    radius = np.where(x < 100, 6, np.where(x < 104, 2, 6))  # one voxel beside the border between boxes of 17
    rod = z**2 + y**2 <= radius**2
    labels = segment.label_instances(rod, voxel_nm, rules(neck_depth_nm=60.0), side=17)
    assert labels.max() == 2 and (labels[rod & (x < 100)] == 1).all() and (labels[rod & (x > 104)] == 2).all()
    assert segment.label_instances(rod, voxel_nm, rules(neck_depth_nm=90.0), side=17).max() == 1
