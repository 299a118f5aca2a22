"""Parts of masks that the network is not sure of: the same ones in boxes of any size as in the whole volume."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict
from scipy import ndimage

from dualrel_jax.inference import unsure_parts as lib
from dualrel_jax.utils import boxes

shapes = st.tuples(*[st.integers(1, 9)] * 3)


@settings(deadline=None, max_examples=60)
@given(shapes, st.tuples(*[st.integers(1, 9)] * 3), st.integers(0, 10**6), st.sampled_from([0.0, 0.05, 0.15]))
def test_boxes_find_what_the_definition_says(shape, sides, seed, margin):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 256, shape).astype(np.uint8)
    threshold = float(rng.uniform(0.2, 0.8))
    labels, n = ndimage.label(values > threshold * 255)
    mean = [values[labels == part].mean() for part in range(1, n + 1)]
    least = values[labels > 0].mean() - margin * 255 if n else 0
    expected = np.isin(labels, [part for part in range(1, n + 1) if mean[part - 1] >= least - 1e-9])

    grid = boxes.grid(shape, sides)
    seen = [values[lib.read_extent(box, shape)] for box in grid]
    every = [lib.measure_parts(part, threshold, box, shape) for part, box in zip(seen, grid, strict=True)]
    found = lib.find_unsure(every, shape, sides, margin)
    mask = np.zeros(shape, bool)
    for box, part, unsure in zip(grid, seen, found.in_boxes, strict=True):
        mask[box] = lib.sure_mask(part, threshold, unsure, box, shape)
    np.testing.assert_array_equal(mask, lib.without_unsure_parts(values, threshold, margin))
    unclear = np.isin(labels, [p for p in range(1, n + 1) if abs(mean[p - 1] - least) < 1e-6])  # equal but for rounding
    np.testing.assert_array_equal(mask[~unclear], expected[~unclear])
    assert found.fraction == pytest.approx(1 - mask.sum() / max((labels > 0).sum(), 1) if n else 0)
    assert found.count == len(np.unique(labels[~mask & (labels > 0)]))


def test_an_unsure_part_goes_and_a_sure_one_stays_whole():
    values = np.zeros((3, 6, 20), np.uint8)
    values[:, 1:5, 1:5] = 250
    values[1, 2, 5] = 110  # the faint rim of the sure part
    values[:, 1:4, 10:13] = 120
    mask = lib.without_unsure_parts(values, 0.4, 0.15)
    assert mask[1, 2, 5] and mask[:, 1:5, 1:5].all() and not mask[:, :, 9:].any()
    np.testing.assert_array_equal(lib.without_unsure_parts(values, 0.4, lib.NONE), values > 102)


def test_a_volume_of_which_all_is_unsure_keeps_it():
    values = np.zeros((2, 5, 9), np.uint8)
    values[:, 1:3, 1:3], values[:, 1:3, 6:8] = 110, 115
    assert lib.without_unsure_parts(values, 0.4, 0.15).sum() == 16


@pytest.mark.parametrize(
    ("points", "fraction", "asked", "known", "elsewhere"),
    [
        ("", 0.0, 0.0, lib.OF_THE_TRAINING, lib.ELSEWHERE),
        ("", 0.0, 0.2, 0.2, 0.2),
        ("a.csv", 0.0, 0.2, lib.NONE, lib.NONE),
        ("", 0.05, 0.0, lib.NONE, lib.NONE),
    ],
)
def test_the_margin_follows_from_the_domain_unless_the_threshold_is_for_all_parts(
    points, fraction, asked, known, elsewhere
):
    settings = ConfigDict({"points": points, "foreground_fraction": fraction, "unsure_margin": asked})
    margins = [lib.margin_of(settings, of_the_training, "xy") for of_the_training in (True, False)]
    assert margins == [known, elsewhere]
