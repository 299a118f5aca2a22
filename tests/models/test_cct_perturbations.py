"""CCT's perturbations: each against its definition, written as loops or by scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from dualrel_jax.models import cct_perturbations as p


def features(seed=0, shape=(3, 6, 8, 5)):
    return jax.random.uniform(jax.random.key(seed), shape, minval=0.1)


def shuffled_step_by_step(z, params, steps, width):
    """The decoder as its authors write it: a 1 x 1 convolution, ReLU and pixel shuffle a step."""
    weights = lambda name: (np.asarray(params[name]["kernel"]), np.asarray(params[name].get("bias", 0.0)))  # noqa: E731
    x = np.asarray(z) @ weights("Dense_0")[0]
    for step in range(steps):
        kernel, bias = weights(f"Dense_{step + 1}")
        b, y, x_size, _ = x.shape
        fine = np.zeros((b, 2 * y, 2 * x_size, width))
        for i in (0, 1):
            for j in (0, 1):
                chosen = slice((2 * i + j) * width, (2 * i + j + 1) * width)
                fine[:, i::2, j::2] = np.maximum(x @ kernel[:, chosen] + bias[chosen], 0)
        x = fine
    kernel, bias = weights(f"Dense_{steps + 1}")
    return x @ kernel + bias


def test_decoder_equals_one_pixel_shuffle_after_another():
    z = features()
    decoder = p.AuxiliaryDecoder(3, 4, jnp.float32)
    params = jax.jit(decoder.init)(jax.random.key(0), z)["params"]
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    # Away from the start, where all sub-pixels are equal.
    params = structure.unflatten([x + 0.3 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)])
    logits = jax.jit(decoder.apply)({"params": params}, z)
    assert logits.shape == (3, 48, 64, 2)
    np.testing.assert_allclose(logits, shuffled_step_by_step(z, params, 3, 4), rtol=1e-4, atol=1e-5)


def test_decoder_starts_without_a_checkerboard():
    decoder = p.AuxiliaryDecoder(2, 4, jnp.float32)
    logits, _ = decoder.init_with_output(jax.random.key(0), features())
    blocks = np.asarray(logits).reshape(3, 6, 4, 8, 4, 2)
    np.testing.assert_allclose(blocks, np.broadcast_to(blocks[:, :, :1, :, :1], blocks.shape), rtol=1e-5)
    assert np.ptp(blocks) > 0.1


def test_noise_is_relative_bounded_and_the_same_for_all_images():
    z = features()
    ratio = np.asarray(p.feature_noise(jax.random.key(0), z, 0.3) / z)
    assert -0.3 <= ratio.min() - 1 < -0.25 and 0.25 < ratio.max() - 1 <= 0.3
    np.testing.assert_allclose(ratio[0], ratio[1], rtol=1e-5)


def test_drop_removes_the_most_active_places_alone():
    z = features()
    for seed in range(5):
        dropped = np.asarray(p.feature_drop(jax.random.key(seed), z, 0.7, 0.9))
        for before, after in zip(np.asarray(z), dropped, strict=True):
            attention, gone = before.mean(axis=-1), (after == 0).all(axis=-1)
            np.testing.assert_array_equal(after[~gone], before[~gone])
            assert gone[attention >= 0.9 * attention.max()].all()
            assert not gone[attention < 0.7 * attention.max()].any()
            assert attention[~gone].max() < attention[gone].min()


def test_dropout_takes_whole_channels_and_keeps_the_mean():
    z = features(shape=(200, 2, 2, 10))
    kept = np.asarray(p.channel_dropout(jax.random.key(0), z, 0.25) / z)
    assert (np.ptp(kept, axis=(1, 2)) < 1e-6).all()
    assert set(np.unique(kept.round(4))) == {0.0, np.float32(1.3333)}
    assert kept.mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("seed", range(6))
def test_objects_and_their_boxes_are_those_of_scipy(seed):
    mask = np.random.default_rng(seed).random((9, 13)) < 0.1 + 0.08 * seed
    lows, highs, names = (np.asarray(t) for t in jax.jit(p.object_boxes)(mask))
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    found = [(slice(y0, y1 + 1), slice(x0, x1 + 1)) for (y0, x0), (y1, x1) in zip(lows[mask], highs[mask], strict=True)]
    boxes = ndimage.find_objects(labels)
    assert found == [boxes[label - 1] for label in labels[mask]]
    assert len(set(zip(labels[mask], names[mask], strict=True))) == count == len(set(names[mask]))


def test_cutout_zeroes_one_box_in_each_object():
    mask = np.zeros((12, 16), int)
    mask[1:6, 1:11] = 1  # 5 x 10
    mask[3, 4] = 0  # a hole
    mask[8:11, 12:15] = 1  # 3 x 3
    z = jnp.ones((2, 12, 16, 3))
    foreground = jnp.stack([jnp.asarray(mask), jnp.zeros((12, 16), int)])
    corners = set()
    keys = jax.random.split(jax.random.key(0), 40)
    for cut in np.asarray(jax.jit(jax.vmap(lambda key: p.guided_cutout(key, z, foreground, 0.4)))(keys)):
        assert (cut[1] == 1).all()  # nothing is cut where nothing is seen
        labels, count = ndimage.label(cut[0, ..., 0] == 0)
        (big, small) = ndimage.find_objects(labels)
        assert count == 2
        for (rows, columns), shape, (y0, x0, y1, x1) in (
            (big, (2, 4), (1, 1, 6, 11)),
            (small, (1, 1), (8, 12, 11, 15)),
        ):
            assert (rows.stop - rows.start, columns.stop - columns.start) == shape
            assert y0 <= rows.start and rows.stop <= y1 and x0 <= columns.start and columns.stop <= x1
        assert (labels > 0).sum() == 2 * 4 + 1
        corners.add((small[0].start, small[1].start))
    assert len(corners) > 5  # of the 9 places in a 3 x 3 object


def test_the_two_masks_share_the_features_out():
    z, foreground = features(), jax.random.bernoulli(jax.random.key(1), 0.3, (3, 6, 8)).astype(jnp.int32)
    inside, outside = p.keep_foreground(z, foreground), p.keep_context(z, foreground)
    np.testing.assert_array_equal(inside + outside, z)
    np.testing.assert_array_equal(inside[foreground == 0], 0)
    np.testing.assert_array_equal(outside[foreground == 1], 0)
