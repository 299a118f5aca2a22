"""Checks that concern an image volume alone: gaps in a folder, blank slices, order of axes, inverted contrast."""

import math
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise

import numpy as np

from dualrel_jax.data.checks.finding import Finding, list_some
from dualrel_jax.data.checks.stored_type import check_stored_type
from dualrel_jax.data.datasets.dark_lines import CLEAR, dark_lines
from dualrel_jax.data.datasets.labels import slice_numbers, unnumbered
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.utils.ranges import central_window, evenly_spaced

_WINDOW = 1024  # side of the central part of a slice that is looked at, pixels
_SLICES = 24  # looked at in a volume, evenly spaced over z
# Measured on Lucchi, VNC, a fly brain, a muscle and the two phantoms.
_CORRELATION_GAP = 0.1  # correlation of neighbours along z minus that along y or x: at most 0.01; axes swapped, 0.24+
LABELS = 0.9  # fraction of pixels equal to their right neighbour: 0.02 to 0.03 in EM, above 0.99 in labels


# Of the pixels that differ from their right neighbour. Measured on five tissues, also framed, turned and inverted, and
# on 48 probabilities that two models made of them: fraction in the lowest or highest tenth of the range, in EM up to
# 0.04, in probabilities 0.36 or more; difference from the neighbour over the standard deviation, in EM 0.26 to 0.61, in
# probabilities up to 0.15.
_ENDS, _ROUGH = 0.15, 0.2
_INSIDE = 0.2  # of differing neighbours, how many are both above 0: in instances up to 0.001, in probabilities 0.45
_FLAT = 0.2  # fraction of pixels equal to their right neighbour, in probabilities 0.39 or more, in EM up to 0.04
_QUIET = np.errstate(all="ignore")  # what is not finite, or huge, gets a sentence where it is read


def check_volume(image: Volume, zs: Sequence[int], labelled: bool = False) -> Iterator[Finding]:
    """What seems wrong with the slices `zs` of an image; `labelled`: for a training with labels of it."""
    yield from _check_numbers(image, labelled)
    zs = evenly_spaced(zs, _SLICES)
    constant = [z for z in zs if _extent(central_slice(image, z)) == 0]
    if constant:
        remedy = "data.train_region=a:b" if labelled else "predict.region=a:b"
        yield Finding(
            f"{len(constant)} of {len(zs)} slices looked at of {image.path} hold one grey value only (z = "
            f"{list_some(constant, len(constant))}): leave them out ({remedy}), or export the volume again.",
            look=True,
        )
    others = evenly_spaced([z for z in zs if z not in constant], 8)
    windows = [central_slice(image, z, _WINDOW // 2) for z in others]
    wrong = list(check_stored_type(image.path, windows)) if windows else []
    if wrong:
        yield from wrong  # nothing else can be read from such values
        return
    yield from _check_axes(image, others)
    yield from _check_contrast(image, others)


def check_prediction_input(image: Volume) -> Iterator[Finding]:
    """`check_volume`, and whether the volume looks like labels or a probability instead of an image."""
    windows = _windows(image)
    if _is_probability(windows):
        yield Finding(
            f"{image.path} looks like a probability that was predicted, not like an image (it is smooth, and mostly "
            "near its lowest and highest value): name the image as predict.input; to number this one, run dualrel "
            "instances.",
            look=True,
        )
        return
    yield from check_volume(image, range(len(image)))
    equal = _flatness(windows)
    if equal > LABELS:
        yield Finding(
            f"{image.path} looks like labels, not like an image (neighbouring pixels are equal in {equal:.0%} of "
            "places): name the image as predict.input.",
            look=True,
        )


def check_probability(volume: Volume) -> Iterator[Finding]:
    """Whether the volume looks like an image instead of a probability, or like one in percent."""
    windows = _windows(volume)
    if volume.dtype == np.uint8 and max(window.max() for window in windows) == 100:
        yield Finding(
            f"{volume.path} has 100 as its highest value: if that is percent, scale it to 0..255 (uint8) or 0..1 "
            "(float), as probabilities are read.",
            look=True,
        )
    if _is_numbered(windows):
        yield Finding(
            f"{volume.path} looks like numbered objects, not like a probability (they hold one value each, and 0 is "
            "between them): give the file that ends in _probability.",
            look=True,
        )
    ends, rough = _texture(windows)
    if ends < _ENDS and rough > _ROUGH and _flatness(windows) < LABELS:
        yield Finding(
            f"{volume.path} looks like an image, not like a probability (it is rough, and only {ends:.0%} of it near "
            "its lowest or highest value): give the file that ends in _probability, or predict this one first.",
            look=True,
        )


def _is_probability(windows: Sequence[np.ndarray]) -> bool:
    """Whether slices are smooth and mostly near the ends of their range, as what a network predicts."""
    ends, rough = _texture(windows)
    return ends > _ENDS and rough < _ROUGH and _flatness(windows) > _FLAT


def _is_numbered(windows: Sequence[np.ndarray]) -> bool:
    """Whether values change between 0 and that of an object, of which there are several; a probability rises slowly."""
    changes = inside = 0
    values: set[float] = set()
    for window in windows:
        left, right = window[:, :-1], window[:, 1:]
        changed = left != right
        changes += np.count_nonzero(changed)
        inside += np.count_nonzero(changed & (left > 0) & (right > 0))
        values |= set(np.unique(right[changed & (right > 0)]).tolist())
    return len(values) > 1 and inside < _INSIDE * changes


@_QUIET
def _texture(windows: Sequence[np.ndarray]) -> tuple[float, float]:
    """Of pixels that differ from their right neighbour: how many are near the ends of the range, and how rough.

    nan where there are none, as in constant slices, or where the range of the type is not that of probabilities.
    """
    dtype = windows[0].dtype
    windows = [window.astype(np.float32) for window in windows]
    windows = [window for window in windows if (window[:, 1:] != window[:, :-1]).any()]
    top = float(np.iinfo(dtype).max) if dtype.kind == "u" else 1.0
    if not windows or not all(np.min(window) >= 0 and np.max(window) <= top for window in windows):
        return math.nan, math.nan
    ends, rough = [], []
    for window in windows:
        step = np.abs(window[:, 1:] - window[:, :-1])
        values = window[:, 1:][step > 0]
        ends.append(np.mean((values < 0.1 * top) | (values > 0.9 * top)))
        rough.append(step[step > 0].mean() / max(float(values.std()), 1e-9))
    return float(np.mean(ends)), float(np.median(rough))


def _check_contrast(image: Volume, zs: Sequence[int]) -> Iterator[Finding]:
    """Membranes are thin and dark in EM as it is usually shown."""
    dark = dark_lines(central_slice(image, z, _WINDOW // 2) for z in zs)
    if dark is not None and dark < -CLEAR:
        yield Finding(
            f"{image.path} seems inverted: its thin lines, the membranes, are brighter than what is around them. "
            "Invert it (Fiji: Edit > Invert), unless all volumes of the training look like this.",
            look=True,
        )


def _check_numbers(image: Volume, labelled: bool) -> Iterator[Finding]:
    """Whether each file of a folder is numbered one after the last, or at least has a number of its own."""
    if problem := unnumbered(image):
        yield Finding(f"{problem}.", look=True)
    numbered = [pair for pair in zip(slice_numbers(image.names), image.names, strict=True) if pair[0] is not None]
    names: dict[int, str] = {}
    for number, name in numbered:
        if number in names:
            masks = ", so masks are taken to be named by the place of a file, counted from 0" if labelled else ""
            yield Finding(
                f"{names[number]} and {name} of {image.path} have the same number{masks}: move one of them away, or "
                "number the files anew.",
                look=True,
            )
            return
        names[number] = name
    steps = [(b - a, a) for a, b in pairwise(sorted(names))]
    usual = min(steps, default=(0, 0))[0]
    if gaps := [range(a + usual, a + step, usual) for step, a in steps if step > usual]:
        missing = sum((step - 1) // usual for step, _ in steps)  # `len` has an end, numbers of files may have none
        listed = list_some(chain(*gaps), missing, 5)
        are, again = (
            (f"Number {listed} is", "that slice again if it is lost")
            if missing == 1
            else (f"Numbers {listed} are", "those slices again if they are lost")
        )
        masks = ", and name masks by the numbers of the image's files, not by their place" if labelled else ""
        yield Finding(
            f"{are} missing between the files of {image.path}: export {again}{masks}.",
            look=True,
        )


def _check_axes(image: Volume, zs: Sequence[int]) -> Iterator[Finding]:
    """Neighbours along z are farther apart, or as far, as along y and x; so they are no more alike."""
    windows = [(central_slice(image, z), central_slice(image, z + 1)) for z in zs if z + 1 < len(image)]
    shifted = [(a, b, a[1:], a[:-1], a[:, 1:], a[:, :-1]) for a, b in windows if _extent(b) > 0]
    if shifted:
        alike = [np.median([_correlation(*pair[i : i + 2]) for pair in shifted]) for i in (0, 2, 4)]
        if alike[0] > min(alike[1:]) + _CORRELATION_GAP:
            yield Finding(
                f"Slices of {image.path} are more alike ({alike[0]:.2f}) than neighbouring rows ({alike[1]:.2f}) or "
                f"columns ({alike[2]:.2f}): its axes may not be z y x; reorder them in image and labels (Fiji: Image > "
                "Stacks > Reslice).",
                look=True,
            )
            return
    z, *yx = image.shape
    if z > 2 * min(yx):
        yield Finding(
            f"{image.path} has {z} slices of only {yx[0]} x {yx[1]} pixels: if that is not so, its axes are not z y x; "
            "reorder them in image and labels (Fiji: Image > Stacks > Reslice).",
            look=True,
        )


def flatness(volume: Volume) -> float:
    """Fraction of pixels that equal their right neighbour."""
    return _flatness(_windows(volume))


def _flatness(windows: Sequence[np.ndarray]) -> float:
    return float(np.mean([(window[:, 1:] == window[:, :-1]).mean() for window in windows]))


def _windows(volume: Volume) -> list[np.ndarray]:
    """The middle of 8 slices, which one reading gives to several checks."""
    return [central_slice(volume, z) for z in evenly_spaced(range(len(volume)), 8)]


def central_slice(volume: Volume, z: int, side: int = _WINDOW) -> np.ndarray:
    """The middle of slice z, at most `side` pixels wide: y x, native."""
    return volume[z, *central_window(volume.shape[1:], side)]


@_QUIET
def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


@_QUIET
def _extent(window: np.ndarray) -> float:
    return float(np.ptp(window.astype(float)))
