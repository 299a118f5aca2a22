"""GCT's flaw maps against slow references by scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from dualrel_jax.constants import IGNORE
from dualrel_jax.models import gct_flaws as flaws

SIZE = 40


def slow_blur(image, kernel):
    kernel += kernel % 2 == 0
    sigma = 0.3 * ((kernel - 1) / 2 - 1) + 0.8
    weights = np.array([np.exp(-((i - kernel // 2) ** 2) / (2 * sigma**2)) for i in range(kernel)])
    weights /= weights.sum()
    for axis in (0, 1):
        image = ndimage.correlate1d(image, weights, axis, mode="mirror")
    return image


def slow_truth(probability, label, scale=0.5, dilations=1):
    error = np.zeros(label.shape)
    for y in range(len(label)):
        for x in range(len(label)):
            if label[y, x] != IGNORE:
                truth = [label[y, x] == 0, label[y, x] == 1]
                error[y, x] = scale * sum(abs(t - q) for t, q in zip(truth, probability[y, x], strict=True))
    error = slow_blur(error, SIZE // 8)
    for _ in range(dilations):
        error = slow_blur(ndimage.maximum_filter(error, 3, mode="mirror"), SIZE // 4)
    return (error - error.min()) / (error.max() - error.min())


def example(seed=0, b=3):
    rng = np.random.default_rng(seed)
    probability = rng.random((b, SIZE, SIZE)).astype(np.float32)
    label = rng.integers(0, 2, (b, SIZE, SIZE))
    label[:, :4, 5:15] = IGNORE
    return np.stack([1 - probability, probability], axis=-1), label


@pytest.mark.parametrize("kernel", [1, 2, 5, 10, 31])
def test_blur_is_scipys_with_reflected_edges(kernel):
    maps = example()[0][..., 1]
    np.testing.assert_allclose(flaws.blur(maps, kernel), [slow_blur(m, kernel) for m in maps], atol=1e-5)


def test_dilate_is_scipys():
    maps = jnp.asarray(example()[0][..., 1])
    expected = [ndimage.maximum_filter(m, 3, mode="mirror") for m in maps]
    np.testing.assert_array_equal(flaws.dilate(maps), expected)


@pytest.mark.parametrize("dilations", [0, 1, 2])
def test_ground_truth(dilations):
    probability, label = example()
    truth = flaws.ground_truth(probability, label, 0.5, dilations)
    expected = [slow_truth(q, y, 0.5, dilations) for q, y in zip(probability, label, strict=True)]
    np.testing.assert_allclose(truth, expected, atol=2e-4)
    assert truth.min() == 0 and truth.max() == pytest.approx(1, abs=1e-5)


def test_what_is_predicted_at_ignored_pixels_does_not_matter():
    probability, label = example()
    other = np.where((label == IGNORE)[..., None], probability[..., ::-1], probability)
    np.testing.assert_array_equal(*(flaws.ground_truth(q, label, 0.5, 1) for q in (probability, other)))


def test_handled_maps_are_positive_blurred_stretched_or_zero():
    maps = np.random.default_rng(0).normal(size=(3, SIZE, SIZE)).astype(np.float32)
    maps[1] *= 0.02  # nowhere above the floor
    maps[2] = -1
    handled = np.asarray(flaws.handle(maps, 0.1))
    expected = slow_blur(np.maximum(maps[0], 0), SIZE // 16)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(handled[0], expected, atol=1e-4)
    np.testing.assert_array_equal(handled[1:], 0)
    assert not np.any(jax.grad(lambda m: flaws.handle(m, 0.1).sum())(jnp.asarray(maps)))


def test_each_network_learns_from_the_less_flawed_one_and_from_itself_where_both_fail():
    own, other = jnp.full((1, 2, 3, 2), 0.25), jnp.full((1, 2, 3, 2), 0.75)
    #                   equal, own better, other better; both fail, own fails, other fails
    own_flaws = jnp.array([[[0.3, 0.1, 0.5], [0.9, 0.7, 0.2]]])
    other_flaws = jnp.array([[[0.3, 0.2, 0.4], [0.7, 0.3, 0.9]]])
    for_own = flaws.consistency_target(own, other, own_flaws, other_flaws, 0.6)[0, ..., 0]
    for_other = flaws.consistency_target(other, own, other_flaws, own_flaws, 0.6)[0, ..., 0]
    np.testing.assert_array_equal(for_own, [[0.25, 0.25, 0.75], [0.25, 0.75, 0.25]])
    np.testing.assert_array_equal(for_other, [[0.75, 0.25, 0.75], [0.75, 0.75, 0.25]])
    gradient = jax.grad(lambda p: flaws.consistency_target(p, other, own_flaws, other_flaws, 0.6).sum())(own)
    assert not np.any(gradient)
