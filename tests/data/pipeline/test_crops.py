"""Where crops are cut: inside, as often as they should, and the same in NumPy and JAX."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from dualrel_jax.data.pipeline import crops
from dualrel_jax.errors import InputError

LARGEST = np.nextafter(np.float32(1), np.float32(0))
MANY = 64


@jax.jit
@jax.vmap
def place_in_jax(u, size, crop, known, points, num_points, share):
    content = crops.Content(size, known, points, num_points)
    return crops.place_crop(u, content, crop, foreground_crop_fraction=share, xp=jnp)


def place(u, size, crop, points, share, known=None):
    """In NumPy, as the tf.data pipeline does it; `known` is the whole slice if it is not given."""
    padded = points if len(points) else np.zeros((1, 2), np.int32)
    known = crops.whole_box(size) if known is None else known
    content = crops.Content(np.array(size), known, padded, len(points))
    corner = crops.place_crop(np.asarray(u, np.float32), content, crop, foreground_crop_fraction=share, xp=np)
    return tuple(corner.tolist())


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_crops_lie_inside_hold_foreground_and_agree_in_numpy_and_jax(data):
    crop = data.draw(st.integers(1, 500), "crop")
    size = np.array([crop + data.draw(st.integers(0, 5000)) for _ in range(2)], np.int32)
    share = data.draw(st.sampled_from([0.0, 0.2, 1.0]), "share")
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    points = rng.integers(0, size, (data.draw(st.integers(0, 8), "points"), 2)).astype(np.int32)
    u = rng.random((MANY, 4), np.float32)
    u[:16] = np.where((np.arange(16)[:, None] >> np.arange(4)) & 1, LARGEST, 0)  # the extremes of each number

    known = np.sort([rng.integers(0, size), rng.integers(0, size)], axis=0).astype(np.int32) + [[0, 0], [1, 1]]
    corners = np.array([place(row, size, crop, points, share, known) for row in u])
    assert (corners >= 0).all() and (corners + crop <= size).all()
    if share == 1 and len(points):
        after = points[None] - corners[:, None]  # crop, point, (y, x)
        assert ((after >= 0) & (after < crop)).all(axis=2).any(axis=1).all()

    padded = np.zeros((8, 2), np.int32)
    padded[: len(points)] = points
    same = (size, np.int32(crop), known.astype(np.int32), padded, np.int32(len(points)), np.float32(share))
    in_jax = place_in_jax(u, *(np.broadcast_to(x, (MANY, *np.shape(x))) for x in same))
    assert np.array_equal(in_jax, corners)


@pytest.mark.parametrize("points, share", [(np.array([[0, 0], [3, 9]], np.int32), 0.0), (np.zeros((0, 2)), 1.0)])
def test_every_position_is_equally_likely_without_share_or_without_foreground(points, share):
    rows, columns = (np.arange(16) + 0.5) / 16, (np.arange(12) + 0.5) / 12
    corners = Counter(place((0, 0.7, y, x), (12, 10), 5, points, share) for y in rows for x in columns)
    assert corners == {(y, x): 4 for y in range(8) for x in range(6)}


def test_volumes_are_drawn_equally_often_or_slices():
    slices = [
        crops.SliceOf(tiny.part(name, count, (8, 8)), z) for name, count in (("a", 6), ("b", 2)) for z in range(count)
    ]
    drawn = lambda equal: [  # noqa: E731
        crops.pick_slice(np.float32(u), crops.slice_ends(slices, equal), np) for u in (np.arange(48) + 0.5) / 48
    ]
    assert Counter(drawn(False)) == dict.fromkeys(range(8), 6)
    assert Counter(drawn(True)) == dict.fromkeys(range(6), 4) | dict.fromkeys((6, 7), 12)
    for u in (0, LARGEST):
        found = [crops.pick_slice(u, crops.slice_ends(slices, True), xp) for xp in (np, jnp)]
        assert found == [0, 0] if u == 0 else found == [7, 7]
    assert crops.slice_ends([], True).shape == (0,)


def test_crops_of_a_partly_labelled_slice_are_cut_around_what_is_labelled():
    rows, columns = (np.arange(8) + 0.5) / 8, (np.arange(6) + 0.5) / 6
    known = np.array([[20, 3], [28, 9]])  # 8 x 6 pixels
    corners = Counter(place((0, 0.7, y, x), (40, 40), 4, np.zeros((0, 2)), 0.0, known) for y in rows for x in columns)
    centres = np.array([(y + 2, x + 2) for y, x in corners])
    assert centres.min(axis=0).tolist() == [20, 3] and centres.max(axis=0).tolist() == [28, 9]

    label = np.full((40, 40), 255, np.uint8)
    assert crops.known_box(label).tolist() == [[0, 0], [40, 40]]
    label[20:28, 3:9] = np.arange(6) % 2
    label[23:25, 4] = 255
    assert crops.known_box(label).tolist() == known.tolist()


def test_crops_are_cut_from_tissue_not_from_padding():
    tissue = np.random.default_rng(0).integers(0, 255, (80, 90), np.uint8)
    assert crops.tissue_box(tissue).tolist() == [[0, 0], [80, 90]]  # as without looking for padding
    framed = np.pad(tissue, [(30, 0), (0, 40)], constant_values=7)
    assert crops.tissue_box(framed).tolist() == [[30, 0], [110, 90]]
    label = np.zeros(framed.shape, np.uint8)
    label[60:] = 255
    assert crops.tissue_box(framed, label).tolist() == [[30, 0], [60, 90]]
    assert crops.tissue_box(np.full((80, 90), 7, np.uint8)).tolist() == [[0, 0], [80, 90]]


def test_the_foreground_pixel_may_lie_anywhere_in_the_crop():
    places = ((np.arange(5) + 0.5) / 5).tolist()
    corners = Counter(place((0.9, 0, y, x), (30, 30), 5, np.array([[14, 9]]), 1.0) for y in places for x in places)
    assert corners == {(14 - y, 9 - x): 1 for y in range(5) for x in range(5)}


def test_the_share_is_that_of_crops_around_foreground():
    corners = [place((u, 0, 0, 0), (30, 30), 5, np.array([[14, 9]]), 0.3) for u in np.arange(100) / 100]
    assert Counter(corners) == {(14, 9): 30, (0, 0): 70}


@given(st.integers(1, 1 << 22))
def test_an_index_is_never_out_of_range(n):
    assert crops.pick(np.float32(0), n, np) == 0
    assert crops.pick(LARGEST, n, np) == n - 1


def test_foreground_points_are_distinct_mitochondrion_pixels():
    label = np.random.default_rng(0).choice(np.array([0, 1, 255], np.uint8), (60, 70))
    points = crops.foreground_points(label, seed=3)
    assert points.shape == (crops.POINTS, 2) and len(np.unique(points, axis=0)) == crops.POINTS
    assert (label[tuple(points.T)] == 1).all()
    assert np.array_equal(points, crops.foreground_points(label, seed=3))
    assert not np.array_equal(points, crops.foreground_points(label, seed=4))
    few = label[:8, :8]
    assert {tuple(point) for point in crops.foreground_points(few, 0)} == {tuple(p) for p in np.argwhere(few == 1)}
    assert crops.foreground_points(np.full((8, 8), 255, np.uint8), 0).shape == (0, 2)


def test_a_crop_larger_than_some_slice_is_refused():
    parts = tiny.part("a", 2, (20, 30)), tiny.part("b", 1, (40, 16))
    slices = crops.resolve(parts, (("b", 0), ("a", 1)))
    assert slices == [(parts[1], 0), (parts[0], 1)]
    crops.check_fits(slices, 16)
    crops.check_fits(slices[1:], 20)
    with pytest.raises(InputError, match="crop of 17 x 17 .*slices of b, 40 x 16"):
        crops.check_fits(slices, 17)
    with pytest.raises(InputError, match="set --config.train.crop_px=12, or lower --config.data.pixel_nm"):
        crops.check_fits(slices, 20, multiple=6)
    with pytest.raises(InputError, match="training pixel size; lower --config.data.pixel_nm"):
        crops.check_fits(slices, 32, multiple=32)
