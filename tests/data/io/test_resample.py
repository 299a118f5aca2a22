"""Pixel sizes change; means, constants and label values do not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualrel_jax.data.io.resample import resample_image, resample_label, resample_probability, resample_window

LENGTH = st.integers(1, 24)
SHAPE = st.tuples(LENGTH, LENGTH)
fast = settings(max_examples=40, deadline=None)


@fast
@given(SHAPE, SHAPE, st.sampled_from(["uint8", "uint16", "int16", "int32", "float32", "float64"]), st.integers(0, 100))
def test_constant_stays_constant(before, after, dtype, value):
    result = resample_image(np.full(before, value, dtype), after)
    assert result.shape == after and result.dtype == dtype
    np.testing.assert_allclose(result, value, rtol=1e-6)


@fast
@given(SHAPE, st.integers(1, 5), st.integers(0, 99))
def test_shrinking_by_an_integer_is_the_mean_of_blocks(after, factor, seed):
    image = np.random.default_rng(seed).random((after[0] * factor, after[1] * factor), np.float32)
    blocks = image.reshape(after[0], factor, after[1], factor).mean((1, 3))
    result = resample_image(image, after)
    np.testing.assert_allclose(result, blocks, rtol=1e-5)
    assert result.mean() == pytest.approx(image.mean(), rel=1e-5)


@fast
@given(SHAPE, SHAPE, st.integers(0, 99))
def test_shrinking_by_any_factor_keeps_the_mean(before, after, seed):
    after = tuple(min(pair) for pair in zip(before, after, strict=True))
    image = np.random.default_rng(seed).random(before, np.float32)
    assert resample_image(image, after).mean() == pytest.approx(image.mean(), rel=1e-5)


def test_shrinking_by_a_fraction_weighs_pixels_by_area():
    # 3 -> 2: each new pixel covers one old pixel and half of the middle one.
    np.testing.assert_allclose(resample_image(np.float32([[0, 3, 9]]), (1, 2)), [[1, 7]], rtol=1e-6)


def test_growing_is_linear_between_pixel_centres():
    expected = [[0, 0.25, 0.75, 1.25, 1.75, 2]]
    np.testing.assert_allclose(resample_image(np.float32([[0, 1, 2]]), (1, 6)), expected, atol=1e-6)


def test_a_factor_gives_the_rounded_shape_and_integers_are_rounded():
    assert resample_image(np.zeros((7, 10), np.uint8), 0.5).shape == (4, 5)
    assert resample_image(np.zeros((7, 10), np.uint8), 0.01).shape == (1, 1)
    assert resample_image(np.uint8([[254, 255], [255, 255]]), 0.5) == 255


@fast
@given(SHAPE, SHAPE, st.integers(0, 99))
def test_labels_stay_labels(before, after, seed):
    label = np.random.default_rng(seed).choice(np.uint8([0, 1, 255]), before)
    result = resample_label(label, after)
    assert result.shape == after and result.dtype == np.uint8
    assert set(np.unique(result)) <= set(np.unique(label))


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ([[1, 1, 1], [1, 1, 0], [0, 0, 0]], 1),
        ([[1, 1, 1], [1, 0, 0], [0, 0, 0]], 0),
        ([[255, 255, 255], [255, 255, 0], [0, 0, 0]], 255),
        ([[255, 255, 255], [255, 1, 1], [1, 0, 0]], 1),  # 4 of 9 ignored: the larger share of the rest
        ([[255, 255, 255], [255, 1, 1], [0, 0, 0]], 0),
    ],
)
def test_label_majority_by_area(block, expected):
    assert resample_label(np.uint8(block), (1, 1)) == expected


def test_halving_labels_keeps_their_area():
    y, x = np.mgrid[:400, :400]
    label = ((y - 203) ** 2 + (x - 198) ** 2 < 90**2).astype(np.uint8)
    assert resample_label(label, (200, 200)).mean() == pytest.approx(label.mean(), rel=0.003)


@fast
@given(SHAPE, SHAPE, st.integers(0, 99))
def test_probabilities_stay_probabilities(before, after, seed):
    probability = np.random.default_rng(seed).random(before, np.float32)
    result = resample_probability(probability, after)
    assert result.shape == after and result.dtype == np.float32
    assert probability.min() - 1e-6 <= result.min() and result.max() <= probability.max() + 1e-6
    assert 0 <= result.min() and result.max() <= 1


@pytest.mark.parametrize("shape", [(20, 30), (7, 90), (31, 11), (40, 60)])
def test_a_window_is_a_part_of_the_whole(shape):
    image = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    window = np.s_[2:7, 3:11]
    got = resample_window(lambda y, x: image[y, x], (image.shape, shape), window)
    np.testing.assert_array_equal(got, resample_image(image, shape)[window])
