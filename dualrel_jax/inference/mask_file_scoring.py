"""Scores of a mask in a file, whatever program made it, on labelled slices."""

import contextlib
import functools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from dualrel_jax.constants import IGNORE
from dualrel_jax.data.datasets.geometry import check_orientation, differing_place
from dualrel_jax.data.datasets.label_index import check_same_numbers
from dualrel_jax.data.datasets.labels import check_jpeg, is_uneven
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.errors import InputError
from dualrel_jax.inference.prediction_record import edges_to_be_moved
from dualrel_jax.metrics import instances, segmentation
from dualrel_jax.utils.ranges import evenly_spaced
from dualrel_jax.utils.text import format_shape


def open_mask(path: str, parts: Sequence[Part]) -> Volume:
    """The mask at `path`; InputError unless it lies on the volume of each part."""
    shapes = {part.image.shape for part in parts}
    mask = open_volume(path, expected=shapes, labels=True)
    with contextlib.suppress(InputError):  # a record of another program
        if edges_to_be_moved(Path(path)):
            print(f"look: the edges of {path} are still to be moved (--edge-nm); the same predict command does it.")
    for part in parts:
        if mask.shape != part.image.shape:
            raise InputError(
                f"data.test_mask={path} has {format_shape(mask.shape)} voxels (z y x), but {part.image.path} has "
                f"{format_shape(part.image.shape)}; expected the same: name the box that the mask covers of the volume "
                "and of its labels too, such as volume.tif[0:20,0:512,0:512], or predict the whole volume."
            )
        check_orientation(part.image, mask)
        check_same_numbers(part.image, mask, None)
        if sentence := differing_place(part.image, mask):
            print(f"look: {sentence}")
    return mask


def score_mask(mask: Volume, parts: Sequence[Part]) -> tuple[segmentation.Scores, list]:
    """Scores of the labelled slices of `parts`, and four of them as pictures (image, mask, label, title).

    Every value of the mask above 0 is mitochondrion. Parts have the pixel size of their volume.

    Raises:
        InputError: values that are not those of a mask.
    """
    slices = [(part, z) for part in parts for z in part.labelled_zs]
    shown = evenly_spaced(range(len(slices)), 4)
    scores, samples, lowest = segmentation.Scores(), [], np.inf
    for i, (part, z) in enumerate(slices):
        native = mask[z]
        _check_values(native, mask)
        lowest = min(lowest, native.min())
        predicted, label = native[part.window or ()] > 0, part.native_label_at(z)
        record = scores.update(z, predicted, label)
        if i in shown:
            samples.append((part.image_at(z), predicted, label == 1, f"z = {z}, JAC {record['jac']:.2f}"))
    if lowest != 0:
        raise InputError(
            f"data.test_mask={mask.path} holds values from {lowest:g} on; expected 0 for background, and above it "
            "mitochondria: of the classes 1 and 2 of ilastik subtract 1."
        )
    return scores, samples


def _check_values(native: np.ndarray, mask: Volume) -> None:
    """InputError for a slice of the mask with NaN or negative values, or those of JPEG, a probability or an image."""
    if not (lowest := native.min()) >= 0:
        found = "NaN" if np.isnan(lowest) else f"the negative value {lowest:g}"
        raise InputError(
            f"data.test_mask={mask.path} holds {found}; expected 0 for background, and values above it for "
            "mitochondria: save everything else as 0."
        )
    check_jpeg(native, "binary", mask.path, mask.names)
    if is_uneven(native) or (native.dtype.kind == "f" and (native != np.rint(native)).any()):
        raise InputError(
            f"data.test_mask={mask.path} holds values that change from pixel to pixel, or are no whole numbers, as in "
            "a probability or an image; expected a mask: 0 for background, and one value, or a number for each "
            "mitochondrion. Name the mask instead, or save where the probability is above its threshold."
        )


def score_instances(mask: Volume, parts: Sequence[Part]) -> dict | None:
    """Scores of `metrics.instances.compare` where mask and labels number the mitochondria of every slice; else None.

    A mask states no confidence, so there is no average precision. Ignored voxels count nowhere.
    """
    (part, *others), whole_numbers = parts, mask.dtype.kind in "iu"
    if others or part.rule.kind != "instances" or len(part.labelled_zs) < len(part.zs) or not whole_numbers:
        return None
    window = part.window or ()

    @functools.lru_cache(maxsize=1)  # both volumes are read slice by slice, in step
    def ignored(z: int) -> np.ndarray:
        return part.native_label_at(z) == IGNORE

    def scored(numbers: Volume, slices: Iterable[int]) -> Iterator[np.ndarray]:
        for z, i in zip(part.zs, slices, strict=True):
            yield np.where(ignored(z), 0, numbers[i, *window])

    true = scored(part.label, (part.rule.index[z] for z in part.zs))
    pairs = instances.overlaps(true, scored(mask, part.zs))
    return instances.compare(pairs) if len(pairs.predicted_voxels) > 1 else None  # one number: a binary mask
