"""Checks of the labels of a volume: outlines that are not filled, masks that a list gives to other slices."""

import numpy as np
import pytest
from scipy import ndimage
from tiny import volume

from dualrel_jax.data.checks.labels import check_labels, check_numbering
from dualrel_jax.data.datasets.registry import load_dataset

MASK = volume(24)[1].astype(np.uint8)


def said(findings):
    return " ".join(finding.text for finding in findings if finding.look)


@pytest.mark.parametrize("thickness", [1, 2])
def test_outlines_are_named_and_masks_are_not(own, thickness):
    y, x = np.mgrid[:40, :48]
    discs = np.stack([np.hypot(y - 20, x - 12 - z) < 9 for z in range(24)])
    inner = np.stack([ndimage.binary_erosion(disc, iterations=thickness) for disc in discs])
    (part,) = load_dataset(own((discs & ~inner).astype(np.uint8))).train
    assert "marks outlines whose inside is background: fill them (Fiji" in said(check_labels(part))
    holes = discs.astype(np.uint8)
    holes[:, 18:21, 10:13] = 0  # one that is really there
    for whole in (discs.astype(np.uint8), holes):
        (part,) = load_dataset(own(whole)).train
        assert "outlines whose" not in said(check_labels(part))


@pytest.mark.parametrize(
    ("names", "listed", "named"),
    [
        (["0002.png", "0009.png"], "3,10", True),
        (["0002.png", "0009.png"], "2,9", False),
        (["0002.png", "0009.png"], "9,2", False),  # by name
        (["mask_1.png", "mask_2.png"], "2,9", False),  # only counted
        (["a.png", "b.png"], "2,9", False),
    ],
)
def test_a_list_that_contradicts_the_names_is_named(own, names, listed, named):
    data = own(dict(zip(names, MASK[[2, 9]], strict=True)), labelled_slices=listed)
    (part,) = load_dataset(data).train
    text = said(check_numbering(part, data))
    assert ("are not of the slices that their names say" in text) == named
    if named:
        assert "0002.png and 1 more" in text and "(z = 3 instead of 2)" in text


@pytest.mark.parametrize(
    ("names", "named"), [(["z02_r4.png", "z09_r1.png"], True), (["z02_r1.png", "z09_r1.png"], False)]
)
def test_several_numbers_that_differ_in_names_are_named(own, names, named):
    """Slice and reader: the last number that differs counts."""
    data = own(dict(zip(names, MASK[[2, 9]], strict=True)))
    (part,) = load_dataset(data).train
    assert part.labelled_zs == ((1, 4) if named else (2, 9))
    text = said(check_numbering(part, data))
    assert ("Several numbers differ in the names" in text) == named
