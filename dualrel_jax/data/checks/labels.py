"""Checks of labels: single masks, the foreground fraction, empty masks, and whether outlines are those of the image."""

from collections.abc import Iterator, Mapping

import numpy as np
from ml_collections import ConfigDict
from scipy import ndimage

from dualrel_jax.constants import IGNORE
from dualrel_jax.data.checks.alignment import misplaced_masks, misplacement
from dualrel_jax.data.checks.finding import Finding, list_some, places
from dualrel_jax.data.checks.single_masks import check_single_masks, list_masks
from dualrel_jax.data.checks.volume import central_slice
from dualrel_jax.data.datasets.labels import have_several_numbers, slice_numbers
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.utils.ranges import evenly_spaced

_SLICES = 24  # looked at in a volume, evenly spaced over z
_ALIGNED = 16  # masks whose place is looked at, about half a second of CPU each
_FEW = 4  # times as many slices as masks: masks of every slice, or of most, are numbered one after the other too
_WHOLE = (16, 0.9)  # more slices than anyone draws for a start, and most of the volume: perhaps a prediction, corrected
# Pixels with enclosed background over those without: at most 1.01 in masks of four tissues, in outlines 7 or more.
_OUTLINES = 1.5
_FOREGROUND = (0.002, 0.6)  # fraction of labelled pixels: 0.05 to 0.07, of a single slice 0.015 to 0.15


def check_labels(part: Part) -> Iterator[Finding]:
    """Single masks, the foreground fraction of the others, blank slices, and whether masks lie where outlines are."""
    yield from (single := list(check_single_masks(part)))
    named = {z for finding in single for z in finding.slices}
    zs = evenly_spaced([z for z in part.labelled_zs if z not in named] or part.labelled_zs, _SLICES)
    labels = {z: part.native_label_at(z) for z in zs}
    foreground = {z: int((label == 1).sum()) for z, label in labels.items()}
    known = sum(int((label != IGNORE).sum()) for label in labels.values())
    fraction = sum(foreground.values()) / max(known, 1)
    native = part.label[part.rule.index[zs[0]]]
    source = f"{part.label.path} ({part.rule.kind}, values {native.min():g} to {native.max():g} in slice {zs[0]})"
    if fraction > _FOREGROUND[1]:
        yield Finding(
            f"{source} marks {fraction:.0%} of the pixels as mitochondrion, expected less than {_FOREGROUND[1]:.0%}: "
            "invert it (Fiji: Edit > Invert) if background and mitochondria are exchanged, or set data.label_kind.",
            look=True,
        )
    elif fraction < _FOREGROUND[0]:
        yield Finding(
            f"{source} marks {fraction:.2%} of the pixels as mitochondrion, expected at least {_FOREGROUND[0]:.1%}: "
            "check data.label_kind (grey counts values above 127), or label more.",
            look=True,
        )
    else:
        yield Finding(
            f"{part.label.path}: {len(part.labelled_zs)} labelled slice{'s' * (len(part.labelled_zs) != 1)} "
            f"({places(part.labelled_zs)}), {fraction:.1%} of their pixels mitochondrion."
        )
    yield from _check_outlines(part, labels)
    yield from _check_empty(part)
    yield from check_blank(part)
    every = [z for z in sorted(part.rule.index) if z not in named]
    yield from (alone := list(_check_single_places(part, evenly_spaced(every, _ALIGNED))))
    named = {z for finding in alone for z in finding.slices}
    # The four with most to see, whose neighbours in z can be compared with.
    inner = [z for z in zs if 0 < z < len(part.image) - 1 and z not in named] or zs
    wrong = misplacement(part, sorted(inner, key=lambda z: -foreground[z])[:4])
    if wrong:
        yield Finding(
            f"The labels {part.label.path} of {part.image.path} {wrong}: check that both are exported the same way, "
            "that slices count from 0, and that they belong together.",
            look=True,
        )


def _check_outlines(part: Part, labels: Mapping[int, np.ndarray]) -> Iterator[Finding]:
    """Whether most of what is drawn are outlines whose inside is background."""
    masks = [label == 1 for label in labels.values()]
    filled = sum(int(ndimage.binary_fill_holes(mask).sum()) for mask in masks)
    if filled > _OUTLINES * sum(int(mask.sum()) for mask in masks):
        yield Finding(
            f"{part.label.path} marks outlines whose inside is background: fill them (Fiji: Process > Binary > Fill "
            "Holes), for the network learns what is marked.",
            look=True,
        )


def _check_single_places(part: Part, zs: list[int]) -> Iterator[Finding]:
    """Masks among well placed ones that would fit better elsewhere; an error of most of them is not for this check."""
    misplaced = misplaced_masks(part, zs)
    if not misplaced or len(misplaced) > len(zs) / 2:
        return
    z, problem = next(iter(misplaced.items()))
    do = "does not follow" if len(misplaced) == 1 else "do not follow"
    yield Finding(
        f"{list_masks(part, [*misplaced])} of {part.label.path} {do} the outlines in {part.image.path} (that of "
        f"slice {z} {problem}): check that each mask is of its slice, and exported as the others.",
        look=True,
        slices=tuple(misplaced),
    )


def check_numbering(part: Part, data: ConfigDict) -> Iterator[Finding]:
    """Whether the numbers of a few masks may only count them, or are not those that data.labelled_slices gives them."""
    label, is_test = part.label, part.name.endswith("/test")
    count = len(label.names) if label else 0
    if data.labelled_slices and not is_test and count:
        yield from _check_list(part)
    if not data.labelled_slices and count and have_several_numbers(label.names) and count < len(part.image):
        z, i = next(iter(part.rule.index.items()))
        yield Finding(
            f"Several numbers differ in the names of {label.path}; {label.names[i]} is taken for slice {z}: if another "
            "number is the slice, name the files by that alone.",
            look=True,
        )
    if count < 2 or len(part.image) < _FEW * count or (data.labelled_slices and not is_test):
        return
    numbers = sorted(number for number in slice_numbers(label.names) if number is not None)
    if numbers in ([*range(count)], [*range(1, count + 1)]):
        remedy = "name each file by its slice" if is_test else "--config.data.labelled_slices=3,40,77 names the slices"
        yield Finding(
            f"The {count} masks of {label.path} are numbered {numbers[0]} to {numbers[-1]} and are taken for "
            f"{places(sorted(part.rule.index))} of the {len(part.image)} slices of {part.image.path}: are these the "
            f"slices, or only a count? If a count, {remedy}.",
            look=True,
        )


def _check_list(part: Part) -> Iterator[Finding]:
    """Whether masks that data.labelled_slices assigns by their order have names with other numbers."""
    names, numbers = part.label.names, slice_numbers(part.label.names)
    of_images = slice_numbers(part.image.names)
    if None in numbers or sorted(numbers) in ([*range(len(names))], [*range(1, len(names) + 1)]):
        return  # only counted
    own = {z: of_images[z] if of_images else z for z in part.rule.index}
    if other := [(z, i) for z, i in part.rule.index.items() if numbers[i] != own[z]]:
        z, i = other[0]
        yield Finding(
            f"{part.label.path}/{names[i]}{f' and {len(other) - 1} more' if other[1:] else ''} are not of the slices "
            f"that their names say (z = {z} instead of {numbers[i]}), by data.labelled_slices: is that in the order of "
            "the names, and counted from 0? Without it the names decide.",
            look=True,
        )


def check_wholly_labelled(part: Part, data: ConfigDict) -> Iterator[Finding]:
    """Whether labels of nearly every slice may be a prediction of which only some slices were corrected."""
    if not part.name.startswith("own/") or part.name.endswith("/test") or data.labelled_slices:
        return
    count, total = len(part.rule.index), len(part.image)
    if len(part.label) == total and count > max(_WHOLE[0], _WHOLE[1] * total):
        yield Finding(
            f"{count} of the {total} slices of {part.label.path} count as labelled: if only some were drawn or "
            "corrected by hand, name these, such as data.labelled_slices=3,40,77.",
            look=True,
        )


def check_blank(part: Part) -> Iterator[Finding]:
    """Labelled slices without an image; each is looked at, since a sample misses the few that are labelled."""
    blank = [z for z in part.labelled_zs if _constant(central_slice(part.view, z)) and _constant(part.view[z])]
    if blank:
        are, hold = ("is", "its image holds") if len(blank) == 1 else ("are", "their images hold")
        yield Finding(
            f"z = {list_some(blank, len(blank))} of {part.image.path} {are} labelled, but {hold} one grey value only: "
            "check that the labels are numbered by the slices of this very image, counted from 0, and take labels of "
            "empty slices out.",
            look=True,
        )


def _constant(image: np.ndarray) -> bool:
    return bool((image == image[0, 0]).all())


def _check_empty(part: Part) -> Iterator[Finding]:
    """An empty mask in a folder of some slices is a label, or one that is still to be drawn."""
    label = part.label
    if not (part.name.startswith("own/") and label.names and len(label) < len(part.image)):
        return
    empty = [label.names[i] for i in part.rule.index.values() if not part.rule.decode(label[i]).any()]
    if empty:
        others = empty[1:]
        more = f" (and so {'are' if others[1:] else 'is'} {list_some(others, len(others), 5)})" if others else ""
        yield Finding(
            f"{label.path}/{empty[0]} is empty{more} and counts as a slice without mitochondria: move it away if it is "
            "not labelled yet.",
            look=True,
        )
