"""The numbers of prototypes against slow references and cases whose answer is known."""

import math

import numpy as np
import pytest
from scipy import stats

from dualrel_jax.visualization import border_analysis, prototype_analysis


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
        near = border_analysis.near_border(label)
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
    near = prototype_analysis.block_mean(border_analysis.near_border(label), (size, size))
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
