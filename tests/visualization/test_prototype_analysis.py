"""The numbers behind the figures, against slow references and cases whose answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dualrel_jax.visualization import prototype_analysis

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
    np.testing.assert_allclose(prototype_analysis.signed_distance(label, pixel), slow_distance(label, pixel))


def test_a_slice_without_a_border_is_infinitely_far_from_one():
    assert (prototype_analysis.signed_distance(np.zeros((4, 5), np.uint8)) == np.inf).all()
    assert (prototype_analysis.signed_distance(np.ones((4, 5), np.uint8)) == -np.inf).all()
    assert not prototype_analysis.near_border(np.zeros((4, 5), np.uint8)).any()


def test_near_is_three_pixels_on_either_side_at_any_pixel_size():
    label = np.zeros((5, 20), np.uint8)
    label[:, 10:] = 1
    label[0] = 255
    expected = np.zeros((5, 20), bool)
    expected[1:, 7:13] = True
    for size in (1.0, 10.0, 4.6):
        np.testing.assert_array_equal(prototype_analysis.near_border(label, (size, size)), expected)


@settings(max_examples=15, deadline=None)
@given(st.lists(LABELS, min_size=1, max_size=3), st.integers(0, 100), PIXELS)
def test_confusion_of_slices_adds_up(labels, seed, pixel):
    probabilities = np.random.default_rng(seed).random((len(labels), 9, 12))
    counts = [prototype_analysis.confusion_counts(p, y, pixel) for p, y in zip(probabilities, labels, strict=True)]
    found = prototype_analysis.confusion_summary(counts)
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
    at_border = np.where(prototype_analysis.near_border(label), 0.5, label)
    everywhere = np.full(label.shape, 0.5)
    found = [
        prototype_analysis.confusion_summary([prototype_analysis.confusion_counts(p, label, (5.0, 5.0))])
        for p in (at_border, everywhere)
    ]
    assert found[0]["share_of_confusion_near_border"] == 1
    assert found[0]["slices_denser_near_border"] == 1
    assert found[1]["share_of_confusion_near_border"] == pytest.approx(found[1]["share_of_pixels_near_border"])
    assert found[1]["slices_denser_near_border"] == 0


def test_a_perfect_prediction_has_no_share_of_confusion():
    label = np.eye(8, dtype=np.uint8)
    found = prototype_analysis.confusion_summary(
        [prototype_analysis.confusion_counts(label.astype(float), label, (1.0, 1.0))]
    )
    assert found["confusion_density"] == 0 and math.isnan(found["share_of_confusion_near_border"])


def test_shares_are_those_of_maps_enlarged_to_the_pixels_of_the_label():
    random = np.random.default_rng(0)
    weights, region, scored = random.random((3, 4, 5)), random.random((8, 15)) < 0.4, random.random((8, 15)) < 0.8
    large = weights.repeat(2, axis=1).repeat(3, axis=2)
    expected = [(one * (region & scored)).sum() / (one * scored).sum() for one in large]
    np.testing.assert_allclose(prototype_analysis.share_within(weights, region, scored), expected)


def test_border_preference_does_not_depend_on_size():
    for size in (12, 24):
        label = np.zeros((48, 48), np.uint8)
        label[:size, :size] = 1
        near = prototype_analysis.near_border(label)
        weights = np.stack([label, 1.0 - label, near, 0.5 + near, ~near])  # two blobs, border alone, mostly, never
        found = prototype_analysis.border_preference(weights, label, near)
        np.testing.assert_allclose(found[2:], [1, 0.75, 0])
        assert 0.25 < found[:2].min() and found[:2].max() < 0.5


@pytest.mark.parametrize("k", [1, 2, 6])
def test_group_means_leave_out_prototypes_with_themselves(k):
    maps = np.random.default_rng(k).random((k, 4, 4))
    matrix, half = prototype_analysis.pairwise_cosine(maps), k // 2
    groups = {"foreground": range(half), "background": range(half, k), "all": range(k)}
    for name, value in prototype_analysis.group_means(matrix).items():
        cosines = [
            np.vdot(maps[i], maps[j]) / math.sqrt(np.vdot(maps[i], maps[i]) * np.vdot(maps[j], maps[j]))
            for i in groups[name]
            for j in groups[name]
            if i < j
        ]
        assert value == pytest.approx(np.mean(cosines)) if cosines else math.isnan(value)


def test_correlations_tell_the_groups_of_an_image_from_all():
    """Within each group and image the larger goes with the smaller, but one group has more of both."""
    random = np.random.default_rng(0)
    a = np.sort(random.random((5, 8)), axis=1) * 0.01 + 0.5 * (np.arange(8) < 4)
    b = np.sort(random.random((5, 8)), axis=1)[:, ::-1] * 0.01 + 0.5 * (np.arange(8) < 4)
    found = prototype_analysis.correlations(a, b)
    assert found["spearman_within_images_foreground"] == found["spearman_within_images_background"] == -1
    assert found["spearman"] > 0.2 and found["pearson"] > 0.9
    ranks = [stats.rankdata(values.ravel()) for values in (a, b)]
    assert found["spearman"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert all(map(math.isnan, prototype_analysis.correlations(np.ones((5, 8)), b).values()))


def found_in(label, reliability, at_border):
    """`activations` of 4 prototypes, of which each has so much of its logits at the border."""
    k, size = len(reliability), label.shape[0] // 2
    near = prototype_analysis.block_mean(prototype_analysis.near_border(label), (size, size))
    foreground = prototype_analysis.block_mean(label == 1, (size, size))
    own = np.stack([foreground, foreground, 1 - foreground, 1 - foreground])
    maps = 20 * own * (1 - near) + 10 * np.multiply.outer(at_border, near)
    return {
        "maps": maps,
        "reliability": np.asarray(reliability),
        "direct": np.zeros((k, size, size)),
        "rectified": own / own.sum(axis=(1, 2), keepdims=True),
        "usage": foreground,
        "references": np.flatnonzero(foreground.ravel() == 1)[:5],
    }


def test_prototypes_that_shun_borders_and_are_reliable_bear_the_claim_out():
    label = np.zeros((32, 32), np.uint8)
    label[6:26, 6:26] = 1
    records = [
        prototype_analysis.prototype_record(found_in(label, reliability, at_border), label, (10.0, 10.0))
        for reliability, at_border in (([1.5, 0.5, 1.3, 0.7], [0, 2, 0, 1]), ([1.2, 0.6, 1.6, 0.8], [1, 2, 0, 1]))
    ]
    found = prototype_analysis.prototype_summary(records)
    assert (found["images"], found["prototypes"]) == (2, 4)
    assert found["reliability_with_share_near_border"]["spearman"] < -0.5
    assert found["reliability_with_share_near_border"]["pearson"] < -0.5
    assert found["reliability_with_border_preference"]["spearman"] < -0.5
    assert found["share_of_pixels_on_foreground"] == pytest.approx(400 / 1024)
    assert found["share_of_references_on_foreground"] == 1
    area = found["direct_attention_on_own_class"]
    assert area["foreground"] == pytest.approx(400 / 1024) and area["background"] == pytest.approx(624 / 1024)
    assert found["rectified_attention_on_own_class"] == {"foreground": 1, "background": 1}
    assert found["mean_agreement"] > 0.8
    cosine = found["mean_pairwise_cosine"]
    assert min(cosine["foreground"], cosine["background"]) > cosine["all"]


def numbers(spearman, with_prototypes=True):
    confusion = {
        "confusion_density": 0.02,
        "share_of_confusion_near_border": 0.4,
        "share_of_pixels_near_border": 0.1,
        "slices": 2,
        "slices_denser_near_border": 2,
    }
    correlation = dict.fromkeys(
        (
            *("spearman", "pearson", "spearman_of_means"),
            *("spearman_within_images_foreground", "spearman_within_images_background"),
        ),
        spearman,
    )
    group = {"foreground": 0.5, "background": 0.6}
    runs = {}
    for name, weight, cosine in (("with", 0.1, 0.3), ("without", 0.0, 0.7)):
        runs[name] = {"confusion": confusion, "jac": [math.nan, 0.7]}
        if with_prototypes:
            runs[name]["prototypes"] = {
                "diversity_weight": weight,
                "images": 2,
                "prototypes": 4,
                "reliability_with_share_near_border": correlation,
                "reliability_with_border_preference": correlation,
                "reliability_with_agreement": correlation,
                "mean_agreement": 0.8,
                "mean_pairwise_cosine": {**group, "all": cosine},
                "direct_attention_on_own_class": group,
                "rectified_attention_on_own_class": group,
                **{
                    f"share_of_{what}_{where}": 0.2
                    for what in ("references", "pixels")
                    for where in ("on_foreground", "near_border")
                },
            }
    return {
        "part": ["own/test"],
        "z": [3, 9],
        "pixel": (10.0, 10.0),
        "unit": "nm",
        "near_px": 3,
        "runs": runs,
        "with_and_without_diversity": [("with", "without")],
    }


def test_words_say_for_and_against():
    text = prototype_analysis.in_words(numbers(-0.4))
    assert "40% of the confusion lies at the border, with 10% of the pixels: 4.0 times" in text
    assert "Spearman -0.40 and Pearson -0.40: for the claim" in text
    assert "with 0.300 with the loss, without 0.700 without: for the claim" in text
    assert text.count("z = 9") == 1 and "z = 3" not in text
    assert "+0.40: against the claim" in prototype_analysis.in_words(numbers(0.4))
    assert "-0.02: neither for nor against the claim" in prototype_analysis.in_words(numbers(-0.02))
    assert "cannot be tested" in prototype_analysis.in_words(numbers(math.nan))
    assert "prototype" not in prototype_analysis.in_words(numbers(0, with_prototypes=False))
