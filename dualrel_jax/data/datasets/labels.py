"""Labelled volumes: what label values mean, and which slice of the image each label slice belongs to."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualrel_jax.constants import IGNORE
from dualrel_jax.data.datasets.geometry import check_shapes
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError

_LISTED = 6  # distinct label values looked for before giving up
# Of neighbouring pixels above 0, how many differ. In instances of two tissues 0.001, in cells of 20 pixels that fill a
# slice 0.06; in a probability 0.5, in one four times as steep 0.10, in JPEG and anti-aliased masks 0.17 or more.
_UNEVEN = 0.08
_GREYS = 16  # more values than this in one slice; JPEG and anti-aliased masks have 31 or more


@dataclass(frozen=True)
class LabelRule:
    """How to read the label slice of image slice z.

    Attributes:
      kind: "binary" (equal to `foreground`), "instances" (> 0) or "grey" (> 127).
      ignore_value: native value of pixels to leave out; -1: none.
      index: image z -> slice of the label volume; its keys are the labelled slices.
      foreground: the foreground value of "binary" labels, as `check_values` returns it.
    """

    kind: str
    ignore_value: int
    index: Mapping[int, int]
    foreground: float | None = None

    def decode(self, native: np.ndarray) -> np.ndarray:
        """Native label (y, x) -> uint8 (y, x) in {0, 1, 255 = ignore}."""
        if self.kind == "binary":
            mask = native == self.foreground
        else:
            mask = native > (127 if self.kind == "grey" else 0)
        if self.ignore_value < 0:
            return mask.astype(np.uint8)
        return np.where(native == self.ignore_value, np.uint8(IGNORE), mask.astype(np.uint8))


@dataclass(frozen=True)
class Source:
    """A volume, those of its slices that belong to a split, and their labels.

    Attributes:
      image: z y x.
      zs: slices of `image` that belong here.
      label: its slices are those of `rule.index`; None without labels.
      rule: how to read `label`.
    """

    image: Volume
    zs: tuple[int, ...]
    label: Volume | None = None
    rule: LabelRule | None = None


def fully_labelled(image: Volume, label: Volume, kind: str) -> Source:
    """A volume labelled from its first to its last slice.

    Raises:
      InputError: image and label of different shape.
    """
    check_shapes(image, label)
    if len(image) != len(label):
        raise InputError(
            f"{image.path} has {len(image)} slices, but its labels {label.path} have {len(label)}; expected as many: "
            "one of the two is not complete."
        )
    zs = tuple(range(len(image)))
    return Source(image, zs, label, LabelRule(kind, -1, {z: z for z in zs}))


def check_values(
    slices: Iterable[np.ndarray], kind: str, ignore_value: int, path: str, names: Sequence[str] = ()
) -> float | None:
    """Checks the values of labels; returns the foreground value of binary ones, None where they hold none.

    Background is 0; in binary labels in which 0 is the ignore value it is the lower of the two values. `names` are the
    files of `slices`, for messages.

    Raises:
      InputError: NaN, negative values, nothing but foreground, more than two values of binary labels, or one alone
          where 0 is no class.
    """
    values: set[float] = set()
    of_slices, varied = [], None  # values of each slice, the slice with the last of those that are listed
    only_foreground = True
    for native in slices:
        _check_numbers(native, path)
        check_jpeg(native, kind, path, names)
        if kind == "binary" and varied is None:
            of_slices.append(_find_values(values, native, ignore_value))
            values |= of_slices[-1]
            varied = native if len(values) >= _LISTED else None
        else:
            only_foreground &= bool((native > (127 if kind == "grey" else 0)).all())
        only_foreground &= not (native == ignore_value).any()
    if varied is not None and is_uneven(varied):
        raise InputError(_grey_values(values, varied, path))
    if ignore_value == 0 and len(values) == 1:  # is it background or mitochondrion?
        raise InputError(
            f"{path} holds nothing but {min(values):g} beside 0, which data.ignore_value=0 leaves out; expected two "
            "values, the lower of background and the higher of mitochondria: if 0 is background here, leave "
            "data.ignore_value at -1 or save these labels as 1 and 2."
        )
    background = min(values, default=0) if ignore_value == 0 else 0
    foreground = sorted(values - {background})
    if len(foreground) > 1:
        mixed = _mixed_values(of_slices, foreground, names) if background == 0 else ""
        raise InputError(f"{path} {mixed}" if mixed else _too_many_values(values, background, path))
    if only_foreground and (kind != "binary" or (foreground and background not in values)):
        raise InputError(
            f"{path} marks every pixel of its labelled slices as mitochondrion (data.label_kind={kind}); expected "
            "background as well: save background as 0, or set data.label_kind or data.ignore_value."
        )
    return foreground[0] if foreground else None


def _check_numbers(native: np.ndarray, path: str) -> None:
    """Raises InputError for NaN and for negative values, to which no kind of labels gives a meaning."""
    if native.dtype.kind == "f" and np.isnan(native).any():
        raise InputError(
            f"{path} holds NaN; expected numbers: give these pixels a value of their own (numpy.nan_to_num(label, "
            "nan=255)) and name it with data.ignore_value."
        )
    signed = " (255 in signed bytes: save it as unsigned ones)" if native.dtype == np.int8 else ""
    if native.dtype.kind in "fi" and native.size and native.min() < 0:
        raise InputError(
            f"{path} holds the negative value {native.min():g}{signed}; expected labels of 0 and above: save "
            "background as 0, and pixels that are not labelled as a value of their own, such as 255, named by "
            "data.ignore_value=255."
        )


def check_jpeg(native: np.ndarray, kind: str, path: str, names: Sequence[str]) -> None:
    """Raises InputError for JPEG, which of values that were drawn keeps no more than whether they are above 127."""
    if kind == "grey" or not (path, *names)[-1].lower().endswith((".jpg", ".jpeg")):
        return
    count, highest = len(np.unique(native)), native.max(initial=0)
    if count > 2 or 0 < highest < 128:
        grey = ", or set data.label_kind=grey if 0 and 255 were drawn" if highest > 127 else ""
        raise InputError(
            f"{path} holds {count} values from 0 to {highest} in one slice, and is JPEG, which changes what was drawn; "
            f"expected masks as they were drawn: export them again, as PNG{grey}."
        )


def _find_values(known: set[float], native: np.ndarray, ignore_value: int) -> set[float]:
    """The values of a slice without `ignore_value`; with `known`, those of other slices, up to `_LISTED`."""
    values = {value for value in known if (native == value).any()}
    # Striking out one value after another is far cheaper than sorting the pixels of every slice.
    others = native[~np.isin(native, [*known, ignore_value])] if native.size else native
    while others.size and len(known | values) < _LISTED:
        values.add(others[0].item())
        others = others[others != others[0]]
    return values


def is_uneven(native: np.ndarray) -> bool:
    """Whether values above 0 change from pixel to pixel, as in no labels of classes or instances."""
    left, right = native[:, :-1], native[:, 1:]
    above = (left > 0) & (right > 0)
    return bool(above.any() and (left != right)[above].mean() > _UNEVEN and len(np.unique(native)) > _GREYS)


def _grey_values(values: set[float], native: np.ndarray, path: str) -> str:
    listed = ", ".join(map(_text, sorted(values)))
    grey = native.dtype.kind in "iu" and 127 < native.max() <= 255
    remedy = ", or set data.label_kind=grey, which takes values above 127 for mitochondrion" if grey else ""
    return (
        f"{path} holds the values {listed} and more, which change from pixel to pixel as in a probability or a grey "
        f"image; expected labels, of 0 and one other value: name the mask instead{remedy}."
    )


def _mixed_values(of_slices: Sequence[set[float]], foreground: Sequence[float], names: Sequence[str]) -> str:
    """What masks hold of which some have one foreground value and some another; "" for other labels."""
    if len(foreground) != 2 or foreground == [1, 2] or any({*foreground} <= values for values in of_slices):
        return ""
    holders = []
    for value in foreground:
        places = [i for i, values in enumerate(of_slices) if value in values]
        first = names[places[0]] if names else f"slice {places[0]}"
        holders.append(f"{_text(value)} in {first}{f' and {len(places) - 1} more' if places[1:] else ''}")
    return (
        f"marks mitochondria by different values, {', '.join(holders)}; expected the same in all: save these masks "
        "alike, or set data.label_kind=instances if every value above 0 is mitochondrion."
    )


def _too_many_values(values: set[float], background: float, path: str) -> str:
    listed = ", ".join(map(_text, sorted(values)))
    listed += " and more" if len(values) >= _LISTED else ""
    advice = ["data.label_kind=instances if each value above 0 is a mitochondrion"]
    grey = "data.label_kind=grey if they are masks in greys or compressed ones (above 127 is mitochondrion)"
    if values <= {0, 1, 2} and background == 0:
        advice.insert(
            0,
            "data.ignore_value=0 if these are classes as in ilastik, Labkit and napari (0 not labelled, 1 background, "
            "2 mitochondrion)",
        )
    elif len(values) == 3:
        unknown = sorted(values)[1] if max(values) == 255 and values != {0, 1, 255} else max(values)
        advice = [
            f"data.ignore_value={_text(unknown)} if {_text(unknown)} marks pixels that are not labelled",
            grey,
            *advice,
        ]
    elif max(values) > 127:
        advice.insert(0, grey)
    return (
        f"{path} holds the label values {listed}, but data.label_kind=binary means {_text(background)} and one other "
        f"value; set {', or '.join(advice)}."
    )


def _text(value: float) -> str:
    """Whole numbers in full: the ids of instances may have many digits."""
    return f"{value:g}" if isinstance(value, float) else str(int(value))


def slice_numbers(names: Sequence[str]) -> list[int | None]:
    """The number of each file among those of a folder; None for a name without one.

    It is the last number of a name that is not the same in all of them: s0_5nm.png, s1_5nm.png -> 0, 1.
    """
    found, varying = _numbers_of(names)
    place = varying[-1] if varying else -1
    return [numbers[place] if numbers else None for numbers in found]


def have_several_numbers(names: Sequence[str]) -> bool:
    """Whether more than one number differs between the names, so that `slice_numbers` may take the wrong one."""
    return len(_numbers_of(names)[1]) > 1


def _numbers_of(names: Sequence[str]) -> tuple[list[list[int]], list[int]]:
    """The numbers in each name, and which of them, counted from the left, differ between names of equally many."""
    found = [[int(digits) for digits in re.findall(r"\d+", Path(name).stem)] for name in names]
    columns = list(zip(*filter(None, found), strict=False))
    alike = len({len(numbers) for numbers in found if numbers}) == 1
    return found, [place for place, column in enumerate(columns) if alike and len(set(column)) > 1]


def unnumbered(volume: Volume) -> str:
    """What is wrong where some files of a folder of slices have a number in their names and others have none; or ""."""
    without = [name for name, number in zip(volume.names, slice_numbers(volume.names), strict=True) if number is None]
    if len(without) in (0, len(volume.names)):
        return ""
    more = f" and {len(without) - 1} more have" if without[1:] else " has"
    return (
        f"{volume.path}/{without[0]}{more} no number, but {len(volume.names) - len(without)} others do; expected one "
        "in each name: move away what is no slice, or number it"
    )


def numbers_in(volume: Volume, key: str | None = None) -> list[int]:
    """The number in the file name of each slice of a folder, as `slice_numbers`.

    `key`: the field that could name the slices instead, for messages; None: there is none.

    Raises:
      InputError: a name without a number, two files with the same one, or a single file with several numbers.
    """
    instead = f", or give {key}" if key else ""
    if len(volume.names) == 1 and len(re.findall(r"\d+", Path(volume.names[0]).stem)) > 1:
        raise InputError(
            f"{file_of(volume, 0)} has several numbers in its name; which is its slice? Rename it to have that number "
            f"alone, as in mask_0042.tif{instead}."
        )
    places_of: dict[int, int] = {}
    for i, number in enumerate(slice_numbers(volume.names)):
        if number is None or number in places_of:
            same = f"has the same number as {volume.names[places_of[number]]}" if number is not None else ""
            raise InputError(
                f"{file_of(volume, i)} {same or 'has no number in its name'}; expected the number of its slice, "
                f"counted from 0, at the end of each name, as in mask_0042.tif: rename the files{instead}."
            )
        places_of[number] = i
    numbers = list(places_of)
    several = have_several_numbers(volume.names)
    if numbers and (several or numbers[0] != int(re.findall(r"\d+", Path(volume.names[0]).stem)[-1])):
        print(f"{volume.path}: of the numbers in the names of its files one counts, in {volume.names[0]} {numbers[0]}.")
    return numbers


def file_of(volume: Volume, i: int) -> str:
    """The path of the file of slice i, which is the volume itself where that is a single file."""
    name = volume.names[i]
    return volume.path if Path(volume.path).name == name else f"{volume.path}/{name}"
