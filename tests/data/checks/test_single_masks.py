"""A single mask that is inverted or saved twice is named; good masks are not."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from dualrel_jax.data.checks.single_masks import check_single_masks
from dualrel_jax.data.datasets.labels import LabelRule
from dualrel_jax.data.io.volume import Volume


def masks(count, foreground=3):
    """z y x: a band of `foreground` rows of 40, at another place in each slice."""
    label = np.zeros((count, 40, 40), np.uint8)
    for z in range(count):
        label[z, z % 37 : z % 37 + foreground] = 255
        label[z, 39, z % 40] = 255
    return label


def findings(label, zs=None, names=()):
    """What is said of slices `label`, which belong to the slices `zs` of an image."""
    volume = dataclasses.replace(Volume.from_array(label, name="masks"), names=tuple(names))
    rule = LabelRule("binary", -1, {z: i for i, z in enumerate(zs or range(len(label)))}, 255)
    return list(check_single_masks(SimpleNamespace(label=volume, rule=rule)))


def inverted(label, *slices):
    label = label.copy()
    label[list(slices)] = 255 - label[list(slices)]
    return label


@pytest.mark.parametrize("count", [1, 2, 8, 200])
def test_good_masks_pass(count):
    assert findings(masks(count)) == []


def test_dense_tissue_is_not_inverted():
    label = masks(8, 16)
    label[0] = masks(1, 26)[0]  # 65 % where others have 40 %
    assert findings(label) == []


@pytest.mark.parametrize(("count", "wrong"), [(2, (1,)), (4, (2,)), (8, (7,)), (5, (0, 2, 4))])
def test_inverted_masks_among_good_ones_are_named(count, wrong):
    (finding,) = findings(inverted(masks(count), *wrong), [10 * z for z in range(count)])
    assert finding.look and finding.slices == tuple(10 * z for z in wrong)
    listed = ", ".join(str(10 * z) for z in wrong)
    assert finding.text.startswith(f"z = {listed} of masks mark") and "but the others 8%" in finding.text


def test_files_are_named():
    names = [f"{z:04d}.png" for z in (3, 12, 40)]
    (finding,) = findings(inverted(masks(3), 1), [3, 12, 40], names)
    assert finding.text.startswith("0012.png of masks marks 92% of the pixels") and finding.slices == (12,)
    label = masks(3)
    label[2] = label[0]
    (finding,) = findings(label, [3, 12, 40], names)
    assert "the same in several slices (0003.png, 0040.png)" in finding.text and finding.slices == (3, 40)


def test_all_inverted_is_no_matter_of_single_masks():
    assert findings(255 - masks(4)) == []


def test_empty_masks_are_no_copies():
    label = masks(4)
    label[:3] = 0
    assert findings(label) == []


def test_slices_where_only_mitochondria_are_marked_are_not_inverted():
    """The rest of the slice is unknown, not background."""
    label = masks(4)
    label[1] = np.where(label[1] == 255, 255, 7)
    volume = Volume.from_array(label, name="masks")
    rule = LabelRule("binary", 7, {z: z for z in range(4)}, 255)
    assert list(check_single_masks(SimpleNamespace(label=volume, rule=rule))) == []
