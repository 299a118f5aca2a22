"""Scores of a mask in a file, whatever program made it, on labelled slices."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dualrel_jax.constants import IGNORE
from dualrel_jax.data.datasets.geometry import check_orientation
from dualrel_jax.data.datasets.labels import check_jpeg, is_uneven
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.errors import InputError
from dualrel_jax.metrics import instances, segmentation
from dualrel_jax.utils.ranges import evenly_spaced
from dualrel_jax.utils.text import format_shape


def open_mask(path: str, parts: Sequence[Part]) -> Volume:
    """The mask at `path`; InputError unless it has the shape of the volume of each part, and the values of one."""
    shapes = {part.image.shape for part in parts}
    mask = open_volume(path, expected=shapes, labels=True)
    for part in parts:
        if mask.shape != part.image.shape:
            raise InputError(
                f"data.test_mask={path} has {format_shape(mask.shape)} voxels (z y x), but {part.image.path} has "
                f"{format_shape(part.image.shape)}; expected the same: name the box that the mask covers of the volume "
                "and of its labels too, such as volume.tif[0:20,0:512,0:512], or predict the whole volume."
            )
        check_orientation(part.image, mask)
    least = np.inf
    for z in sorted({z for part in parts for z in part.labelled_zs}):
        native = mask[z]
        least = min(least, native.min())
        check_jpeg(native, "binary", mask.path, mask.names)
        if is_uneven(native):
            raise InputError(
                f"data.test_mask={path} holds values that change from pixel to pixel, as in a probability or an image; "
                "expected a mask: 0 for background, and one value, or a number for each mitochondrion. Name the mask "
                "instead, or save where the probability is above its threshold."
            )
    if least != 0:
        raise InputError(
            f"data.test_mask={path} holds values from {least:g} on; expected 0 for background, and above it "
            "mitochondria: of the classes 1 and 2 of ilastik subtract 1."
        )
    return mask


def score_mask(mask: Volume, parts: Sequence[Part], *, show: int = 4) -> tuple[segmentation.Scores, list]:
    """Scores of the labelled slices of `parts`, and `show` of them as pictures (image, mask, label, title).

    Every value of the mask above 0 is mitochondrion. Parts have the pixel size of their volume.
    """
    slices = [(part, z) for part in parts for z in part.labelled_zs]
    shown = evenly_spaced(range(len(slices)), show)
    scores, samples = segmentation.Scores(), []
    for i, (part, z) in enumerate(slices):
        predicted, label = mask[z, *(part.window or ())] > 0, part.native_label_at(z)
        record = scores.update(z, predicted, label)
        if i in shown:
            samples.append((part.image_at(z), predicted, label == 1, f"z = {z}, JAC {record['jac']:.2f}"))
    return scores, samples


def score_instances(mask: Volume, parts: Sequence[Part]) -> dict | None:
    """Scores of `metrics.instances.compare` where mask and labels number the mitochondria of every slice; else None.

    A mask states no confidence, so there is no average precision. Ignored voxels count nowhere.
    """
    (part, *others), whole_numbers = parts, mask.dtype.kind in "iu"
    if others or part.rule.kind != "instances" or len(part.labelled_zs) < len(part.zs) or not whole_numbers:
        return None
    window = part.window or ()
    if not _has_several_numbers(mask[z, *window] for z in part.zs):
        return None

    def scored(numbers: Volume, slices: Iterable[int]) -> Iterator[np.ndarray]:
        for z, i in zip(part.zs, slices, strict=True):
            yield np.where(part.native_label_at(z) == IGNORE, 0, numbers[i, *window])

    true = scored(part.label, (part.rule.index[z] for z in part.zs))
    return instances.compare(instances.overlaps(true, scored(mask, part.zs)))


def _has_several_numbers(slices: Iterable[np.ndarray]) -> bool:
    """Whether there are two values above 0: a binary mask has one."""
    found: set[int] = set()
    for slice_yx in slices:
        found |= set(np.unique(slice_yx[slice_yx > 0])[:2].tolist())
        if len(found) > 1:
            return True
    return False
