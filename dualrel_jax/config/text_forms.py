"""How config fields that are texts with a structure are written: voxel sizes, ranges of slices, fractions, lists."""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

from dualrel_jax.utils.boxes import parse_box, whole

LARGEST_VOXEL_NM = 100_000.0


class Form(NamedTuple):
    """A form of a text: what an error says was expected, and whether a text has it."""

    expected: str
    accepts: Callable[[str], bool]


def _is_voxel(text: str) -> bool:
    sizes = text.split(",")
    if sizes[0].strip() == "?":
        sizes = ["1", *sizes[1:]]
    return len(sizes) == 3 and all(0 < _number(size) <= LARGEST_VOXEL_NM for size in sizes)


def _number(text: str) -> float:
    """nan for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _is_box(text: str) -> bool:
    """Whether it is a box of some volume."""
    try:
        parse_box(text, whole((10**12,) * 3))
    except ValueError:
        return False
    return True


def _is_slice_list(text: str) -> bool:
    lists = [entry.split(",") if entry.strip() else [] for entry in text.split(";")]
    if not all(re.fullmatch(r"\s*\d{1,9}\s*", word, re.ASCII) for words in lists for word in words):
        return False
    return all(len({int(word) for word in words}) == len(words) for words in lists)


def _is_labelled(text: str) -> bool:
    match = re.fullmatch(r"\s*(\d{1,9})(?:/(\d{1,9}))?\s*", text, re.ASCII)
    if not match:
        return text.strip() == "all"
    return int(match[1]) > 0 and (match[2] is None or int(match[1]) <= int(match[2]))


def _is_intensities(text: str) -> bool:
    values = [_number(word) for word in text.split(",")]
    return len(values) == 2 and -math.inf < values[0] < values[1] < math.inf


VOXEL = Form("the voxel size z,y,x in nm, such as 30,8,8, or ?,8,8 where z is unknown", _is_voxel)
VOXELS = Form(
    f"{VOXEL.expected}, or one for each volume, separated by semicolons",
    lambda text: all(not entry.strip() or _is_voxel(entry) for entry in text.split(";")),
)
BOX = Form(
    "a range of slices such as 0:128 (128 not included), or of z, y and x, of which parts may be left out, such as "
    "0:128,,0:704",
    _is_box,
)
BOX_OR_NONE = Form(f"{BOX.expected}; or none", lambda text: text == "none" or _is_box(text))
SLICE_LIST = Form("the z of each label slice, counted from 0, such as 3,40, of several volumes 3,40;5", _is_slice_list)
LABELLED = Form("a fraction such as 1/32, a count such as 5, or all", _is_labelled)
LEVEL = Form("auto or a number such as 0 or 2", lambda text: re.fullmatch(r"auto|\d{1,3}", text, re.ASCII) is not None)
INTENSITIES = Form("two intensities, the lower first, such as 0,255", _is_intensities)


def names_joined(names: tuple[str, ...]) -> Form:
    """Some of `names`, joined by +."""
    return Form(
        f"some of {', '.join(names)}, joined by +",
        lambda text: all(word.strip() in names for word in text.split("+")),
    )
