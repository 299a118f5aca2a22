"""Which slice of a volume each label slice belongs to: by a list, by the names of files, or by its place in a stack."""

from pathlib import Path

import numpy as np

from dualrel_jax.data.datasets.labels import file_of, numbers_in, slice_numbers, unnumbered
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError


def check_same_numbers(image: Volume, label: Volume, key: str | None) -> None:
    """InputError where files of images and as many of labels, taken in order, have numbers that do not go together.

    `key`: the field that could say which slices are labelled; None: there is none.
    """
    numbers = [slice_numbers(volume.names) for volume in (image, label)]
    if any(not column or None in column or len(set(column)) < len(column) for column in numbers):
        return
    apart = [b - a for a, b in zip(*numbers, strict=True)]
    if len(set(apart)) > 1 or abs(apart[0]) > 1:  # one may count from 0, the other from 1
        place = next(i for i, step in enumerate(apart) if step)
        instead = f", or give {key}" if key else ""
        raise InputError(
            f"{label.path} and {image.path} have as many files, but {label.names[place]} would be the label of "
            f"{image.names[place]}; expected files with the same numbers: rename them{instead}."
        )


def index_of_stack(label: Volume, ignore_value: int) -> dict[int, int]:
    """z -> label slice, of a stack as long as the image: an empty slice is taken for one without a label."""
    index = {z: z for z in range(len(label)) if is_labelled(label[z], ignore_value)}
    print(f"{label.path}: {len(index)} of {len(label)} slices are not empty and count as labelled.")
    return index


def is_labelled(native: np.ndarray, ignore_value: int) -> bool:
    return bool((native != 0).any() and (native != ignore_value).any())


def index_from_list(image: Volume, label: Volume, text: str) -> dict[int, int]:
    """z -> label slice, from the z of each label slice in turn; a full stack takes them as a choice of its slices."""
    zs = [int(z) for z in text.split(",")]
    for z in zs:
        _check_z(z, image, f"data.labelled_slices={text} names")
    if len(label) == len(image):
        return {z: z for z in zs}
    numbers = slice_numbers(label.names)
    if numbers and set(zs) <= set(numbers) and len(set(numbers)) == len(numbers) and _counts_from_0(image):
        return {z: numbers.index(z) for z in zs}  # the list chooses among masks named by their slices
    if len(label) == len(zs):
        return dict(zip(zs, range(len(zs)), strict=True))
    raise InputError(
        f"data.labelled_slices={text} names {len(zs)} slices, but {label.path} has {len(label)}; expected as many."
    )


def _counts_from_0(image: Volume) -> bool:
    """Whether its slices have no numbers of their own: no names, or names numbered 0, 1, 2, ..."""
    return not image.names or slice_numbers(image.names) == list(range(len(image)))


def index_from_names(image: Volume, label: Volume, key: str | None) -> dict[int, int]:
    """z -> label slice, from file names: that of an image file, or its number; without image files the number is z."""
    if not label.names:
        remedy = f"give the z of each with {key}=3,40,77" if key else "give a folder with one file for each"
        raise InputError(
            f"{label.path} has {len(label)} slices, but its image {image.path} has {len(image)}; expected as many, or "
            f"to know which are labelled: {remedy}{'' if key else ' that ends in its z, as in mask_0042.tif'}."
        )
    if problem := unnumbered(image):
        raise InputError(f"{problem}.")
    stems = [Path(name).stem for name in image.names]
    own = [Path(name).stem for name in label.names]
    if len({*stems}) == len(stems) and len({*own}) == len(own) and {*own} <= {*stems}:
        return {stems.index(stem): i for i, stem in enumerate(own)}  # named as their images are
    numbers = slice_numbers(image.names)
    named = numbers and None not in numbers and len(set(numbers)) == len(numbers)
    z_of = dict(zip(numbers, range(len(numbers)), strict=True)) if named else None
    index = {}
    for i, number in enumerate(numbers_in(label, key)):
        if z_of is None:
            _check_z(number, image, f"{file_of(label, i)} labels")
        elif number not in z_of:
            raise InputError(
                f"{file_of(label, i)} labels slice {number}, but no file of {image.path} ends in that number "
                f"({image.names[0]} to {image.names[-1]}); expected label files numbered as their images."
            )
        index[number if z_of is None else z_of[number]] = i
    return index


def _check_z(z: int, image: Volume, who: str) -> None:
    if not 0 <= z < len(image):
        last = len(image) - 1
        raise InputError(
            f"{who} slice {z}, but {image.path} has the slices 0 to {last} (counted from 0); expected one of these: if "
            "yours count from 1, subtract 1."
        )
