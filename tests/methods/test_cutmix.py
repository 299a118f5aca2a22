"""Boxes of CutMix: sizes and shapes as asked for, and pasting."""

import jax
import jax.numpy as jnp
import numpy as np

from dualrel_jax.methods import cutmix

SIDE = 64


def extents(mask):
    """(height, width) of the only box of a mask y x."""
    rows, columns = mask.any(axis=1), mask.any(axis=0)
    assert mask.sum() == rows.sum() * columns.sum()  # a full rectangle
    assert np.ptp(np.flatnonzero(rows)) + 1 == rows.sum()
    return rows.sum(), columns.sum()


def test_boxes_cover_the_asked_share_in_the_asked_shape_everywhere():
    masks = np.asarray(cutmix.boxes(jax.random.key(0), 400, SIDE, (0.1, 0.4), (0.3, 3.3)))
    sizes = np.array([extents(mask) for mask in masks], float)
    share, aspect = sizes.prod(axis=1) / SIDE**2, sizes[:, 0] / sizes[:, 1]
    assert 0.085 < share.min() < 0.13 and 0.37 < share.max() < 0.42
    assert 0.27 < aspect.min() < 0.4 and 2.6 < aspect.max() < 3.6
    assert abs(share.mean() - 0.25) < 0.015 and abs(np.log(aspect).mean()) < 0.1
    where = masks.mean(axis=0)
    assert where[0].max() > 0 and where[-1].max() > 0 and where[:, 0].max() > 0 and where[:, -1].max() > 0
    np.testing.assert_allclose(where, where.T, atol=0.12)


def test_a_box_that_would_not_fit_is_made_square_enough():
    (mask,) = np.asarray(cutmix.boxes(jax.random.key(1), 1, SIDE, (0.8, 0.8), (3.3, 3.3)))
    height, width = extents(mask)
    assert height == SIDE and abs(width / SIDE - 0.8) < 0.03


def test_three_boxes_are_the_exclusive_or_of_three_boxes():
    masks = np.asarray(cutmix.three_boxes(jax.random.key(0), 500, SIDE))
    # Each box covers f / 3, f ~ U(0.25, 0.5), 1/8 on average; overlaps are taken out.
    assert 0.22 < masks.mean() < 3 / 8
    assert masks.mean(axis=(1, 2)).max() < 0.5
    corners = [sum(np.sum(mask[1:, 1:] ^ mask[:-1, 1:] ^ mask[1:, :-1] ^ mask[:-1, :-1]) for mask in masks[:50])]
    assert corners[0] <= 50 * 12  # a box has four corners


def test_paste_takes_the_other_inside_the_mask():
    mask = jnp.zeros((1, 4, 4), bool).at[0, 1:3, 1:3].set(True)
    crop, other = jnp.zeros((1, 4, 4, 2)), jnp.ones((1, 4, 4, 2))
    np.testing.assert_array_equal(cutmix.paste(mask, crop, other)[..., 0], mask)
    np.testing.assert_array_equal(cutmix.paste(mask, crop[..., 0], other[..., 0]), mask)
