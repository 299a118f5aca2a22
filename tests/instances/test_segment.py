import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
from scipy import ndimage
from shapes import ball, blobs
from skimage import morphology

from dualrel_jax.instances import segment

FACES = ndimage.generate_binary_structure(3, 1)


def rules(**changed):
    return ConfigDict({"hole_um3": 0.0, "seed_depth_nm": 0.0, "min_um3": 0.0} | changed)


def test_two_balls_that_touch_are_parted_unless_the_neck_is_wide():
    shape, voxel_nm = (12, 60, 100), (30, 10, 10)
    pair = ball(shape, voxel_nm, (180, 300, 300), 140) | ball(shape, voxel_nm, (180, 300, 540), 140)
    assert segment.label_instances(pair, voxel_nm, rules()).max() == 1
    parted = segment.label_instances(pair, voxel_nm, rules(seed_depth_nm=30.0))
    assert parted.max() == 2
    left, right = parted[6, 30, 30], parted[6, 30, 54]
    assert left != right and ((parted > 0) == pair).all()
    assert (parted[..., :40] != right).all() and (parted[..., 44:] != left).all()
    # The neck's radius is 72 nm, that of the balls 140 nm.
    assert segment.label_instances(pair, voxel_nm, rules(seed_depth_nm=90.0)).max() == 1


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([3.3, 7.7, 12.1]), st.sampled_from([(5, 5, 5), (23, 7, 6)]))
def test_as_many_parts_as_h_maxima(seed, depth_nm, voxel_nm):
    """Reference: extended maxima of the distance by grey reconstruction."""
    components, n = ndimage.label(blobs(seed))
    inside = np.pad(components == 1 + seed % n, 1)
    distance_nm = ndimage.distance_transform_edt(inside, sampling=voxel_nm).astype(np.float32)
    filled = morphology.reconstruction(np.maximum(distance_nm - depth_nm, 0), distance_nm, footprint=FACES)
    peaks = morphology.local_maxima(filled, connectivity=1) & (filled > 0)
    parts = segment.split(inside, voxel_nm, depth_nm)
    assert parts.max() == max(ndimage.label(peaks)[1], 1)
    assert ((parts > 0) == inside).all()
    assert all(ndimage.label(parts == i)[1] == 1 for i in range(1, parts.max() + 1))


def test_what_the_volume_cuts_is_not_narrow_there():
    """A rod through the whole volume is one piece however deep seeds may be."""
    rod = np.zeros((30, 40, 40), bool)
    rod[:, 10:30, 10:30] = True
    assert segment.label_instances(rod, (5, 5, 5), rules(seed_depth_nm=1.0)).max() == 1
    assert segment.label_instances(np.ones((4, 4, 4), bool), (5, 5, 5), rules(seed_depth_nm=1.0)).max() == 1


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
    labels = np.random.default_rng(seed).integers(0, 9, (3, 6, 7)).astype(np.uint32) * 3
    numbered = segment.number_by_size(labels, smallest)
    sizes = {i: int((labels == i).sum()) for i in np.unique(labels[labels > 0])}
    kept = sorted((i for i, size in sizes.items() if size >= smallest), key=lambda i: (-sizes[i], i))
    assert numbered.dtype == np.uint16 and numbered.max() == len(kept)
    for number, i in enumerate(kept, start=1):
        assert ((numbered == number) == (labels == i)).all()
