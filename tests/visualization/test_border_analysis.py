"""Distances and confusion against slow references and cases whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualrel_jax.visualization import border_analysis

LABELS = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).choice([0, 1, 255], (9, 12), p=[0.6, 0.35, 0.05]).astype(np.uint8)
)
PIXELS = st.sampled_from([(1.0, 1.0), (10.0, 10.0), (4.0, 9.0)])


def slow_distance(label, pixel):
    """By looking at every pair of pixels."""
    found = np.full(label.shape, np.inf)
    for at in np.ndindex(*label.shape):
        for other in np.ndindex(*label.shape):
            if label[other] == (0 if label[at] == 1 else 1):
                found[at] = min(found[at], math.hypot(*((a - b) * p for a, b, p in zip(at, other, pixel, strict=True))))
    return np.where(label == 1, -1, 1) * (found - math.sqrt(pixel[0] * pixel[1]) / 2)


@settings(max_examples=15, deadline=None)
@given(LABELS, PIXELS)
def test_distances_are_those_to_the_nearest_pixel_of_the_other_side(label, pixel):
    np.testing.assert_allclose(border_analysis.signed_distance(label, pixel), slow_distance(label, pixel))


def test_a_slice_without_a_border_is_infinitely_far_from_one():
    assert (border_analysis.signed_distance(np.zeros((4, 5), np.uint8)) == np.inf).all()
    assert (border_analysis.signed_distance(np.ones((4, 5), np.uint8)) == -np.inf).all()
    assert not border_analysis.near_border(np.zeros((4, 5), np.uint8)).any()


def test_near_is_three_pixels_on_either_side_at_any_pixel_size():
    label = np.zeros((5, 20), np.uint8)
    label[:, 10:] = 1
    label[0] = 255
    expected = np.zeros((5, 20), bool)
    expected[1:, 7:13] = True
    for size in (1.0, 10.0, 4.6):
        np.testing.assert_array_equal(border_analysis.near_border(label, (size, size)), expected)


@settings(max_examples=15, deadline=None)
@given(st.lists(LABELS, min_size=1, max_size=3), st.integers(0, 100), PIXELS)
def test_confusion_of_slices_adds_up(labels, seed, pixel):
    probabilities = np.random.default_rng(seed).random((len(labels), 9, 12))
    counts = [border_analysis.confusion_counts(p, y, pixel) for p, y in zip(probabilities, labels, strict=True)]
    found = border_analysis.confusion_summary(counts)
    value, distance = [], []
    for p, y in zip(probabilities, labels, strict=True):
        for at in zip(*np.nonzero(y != 255), strict=True):
            value.append(1 - p[at] if y[at] else p[at])
        distance.extend(slow_distance(y, pixel)[y != 255] / math.sqrt(pixel[0] * pixel[1]))
    value, distance = np.array(value), np.array(distance)
    near = np.abs(distance) < 3
    assert found["confusion_density"] == pytest.approx(value.mean())
    assert found["share_of_confusion_near_border"] == pytest.approx(value[near].sum() / value.sum())
    assert found["share_of_pixels_near_border"] == pytest.approx(near.mean())
    assert found["histogram_share_of_pixels"].sum() == pytest.approx(1)
    curve, edges = found["confusion_density_by_distance"], found["distance_edges_px"]
    for i in np.flatnonzero(found["pixels_by_distance"]):
        here = (distance >= edges[i]) & (distance < edges[i + 1])
        assert curve[i] == pytest.approx(value[here].mean())


def test_confusion_at_borders_alone_is_found_there():
    label = np.zeros((40, 40), np.uint8)
    label[10:30, 10:30] = 1
    at_border = np.where(border_analysis.near_border(label), 0.5, label)
    everywhere = np.full(label.shape, 0.5)
    found = [
        border_analysis.confusion_summary([border_analysis.confusion_counts(p, label, (5.0, 5.0))])
        for p in (at_border, everywhere)
    ]
    assert found[0]["share_of_confusion_near_border"] == 1
    assert found[0]["slices_denser_near_border"] == 1
    assert found[1]["share_of_confusion_near_border"] == pytest.approx(found[1]["share_of_pixels_near_border"])
    assert found[1]["slices_denser_near_border"] == 0


def test_a_perfect_prediction_has_no_share_of_confusion():
    label = np.eye(8, dtype=np.uint8)
    found = border_analysis.confusion_summary(
        [border_analysis.confusion_counts(label.astype(float), label, (1.0, 1.0))]
    )
    assert found["confusion_density"] == 0 and math.isnan(found["share_of_confusion_near_border"])
