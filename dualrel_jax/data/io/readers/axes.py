"""Which axes of an array are z, y and x, by the names that a file gives them or else by their lengths."""

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from dualrel_jax.errors import InputError
from dualrel_jax.utils.text import format_shape

_NAMES = {
    "z": ("z", "depth", "plane", "pln", "slice", "section"),
    "y": ("y", "row", "height"),
    "x": ("x", "column", "col", "width"),
    "t": ("t", "time", "timepoint", "frame"),
    "c": ("c", "channel", "ch", "sample", "s", "rgb"),
}
_CHANNEL = re.compile(r"(?:(.+):)?channel ?(\d+)", re.IGNORECASE)  # named as Imaris does
_LETTER = {name: letter for letter, names in _NAMES.items() for name in names}


class Axes(NamedTuple):
    """Position of z, y and x in an array; z is None where the array is one slice. All other axes have length 1."""

    z: int | None
    y: int
    x: int


def letters(names: Sequence[object]) -> str:
    """One letter an axis: ("Depth", "y", "channel^", None) -> "zyc?"."""
    clean = (str(name).strip().lower().rstrip("^").split("/")[-1] for name in names)
    return "".join(_LETTER.get(name) or _LETTER.get(name.removesuffix("s"), "?") for name in clean)


def _letters_of(names: Sequence[object] | None, count: int) -> str:
    return letters(names) if names is not None and len(names) == count else "?" * count


def along(axes: Axes, values: Sequence[float], names: Sequence[object] | None) -> tuple[float, float, float]:
    """Of `values`, one for each axis of the array, those of z, y and x; nan where there is none. Time is no length."""
    if has_frames(axes, names, len(values)):
        named = letters(names)
        axes = axes._replace(z=named.index("z") if "z" in named else None)
    return tuple(math.nan if axis is None else values[axis] for axis in axes)


def has_frames(axes: Axes, names: Sequence[object] | None, count: int) -> bool:
    """Whether the slices of an array of `count` axes are its time points."""
    return axes.z is not None and _letters_of(names, count)[axes.z] == "t"


def split_channel(inner: str | None) -> tuple[str | None, int | None]:
    """Array and channel of a name inside a file: "raw:Channel 1" -> ("raw", 1), "raw" -> ("raw", None)."""
    match = _CHANNEL.fullmatch(inner or "")
    return (match[1], int(match[2])) if match else (inner, None)


def name_channel(path: object, count: int) -> str:
    """How to name one of `count` channels."""
    return f"name its channel as {path}:Channel 0, up to Channel {count - 1} (in Fiji these count from 1)"


def fixed_channel(
    shape: Sequence[int], names: Sequence[object] | None, channel: int | None, path: str
) -> dict[int, int]:
    """{axis of channels: the one to read}; {} where there are none. `shape` and `names` as for `find_axes`.

    Of four axes without names the shorter one of the first and the last has the channels, if one is named.

    Raises:
        InputError: several channels of which none is named, or no such channel.
    """
    letters = _letters_of(names, len(shape))
    at = letters.find("c")
    if letters == "????" and channel is not None:
        at = 0 if shape[0] <= shape[-1] else 3
    count = shape[at] if at >= 0 else 0
    if channel is None and count <= 1:
        return {}
    if channel is None:
        slices = "; if these are slices, save it with the axes z y x" if count > 4 and _only_long(shape, at) else ""
        raise InputError(f"{path}: has {count} channels; expected one: {name_channel(path, count)}{slices}")
    if channel >= count:
        stated = " ".join(map(str, names or ())) or "no names"
        remedy = name_channel(path, count) if count > 1 else "leave the name of a channel out"
        raise InputError(
            f"{path}: has no Channel {channel}; expected one of its {count} ({format_shape(shape)}, axes {stated}): "
            f"{remedy}"
        )
    return {at: channel}


def _only_long(shape: Sequence[int], at: int) -> bool:
    """Whether an axis is the only one longer than 1 beside two, y and x."""
    return shape[at] > 1 and sum(length > 1 for length in shape) == 3


def find_axes(shape: Sequence[int], names: Sequence[object] | None, path: str) -> Axes:
    """The axes of an array of `shape`, by their `names` in the same order; None or unknown names: by their lengths.

    Time points are slices where nothing else may be.

    Raises:
        InputError: no single stack of slices, or names that contradict each other.
    """
    named = _letters_of(names, len(shape))
    if 0 in shape:
        raise _refuse(shape, names, path)
    if not {"y", "x"} & set(named):
        return _by_length(shape, named, names, path)
    for letter in "zyx":
        if named.count(letter) > 1:
            raise _refuse(shape, names, path, f"two axes are {letter}: correct their names")
    missing = [letter for letter in "yxz" if letter not in named]
    unnamed = [axis for axis, letter in enumerate(named) if letter == "?" and shape[axis] > 1]
    if len(unnamed) == 1 and missing:  # ("plane_of_focus", "y", "x")
        named = named[: unnamed[0]] + missing.pop(0) + named[unnamed[0] + 1 :]
    if "y" in missing or "x" in missing:
        raise _refuse(shape, names, path, "one of y and x is not among them")
    axes = Axes(named.index("z") if "z" in named else None, named.index("y"), named.index("x"))
    if "t" in named and _only_long(shape, named.index("t")):
        axes = axes._replace(z=named.index("t"))
    if any(length > 1 and axis not in axes for axis, length in enumerate(shape)):
        raise _refuse(shape, names, path)
    return axes


def _by_length(shape: Sequence[int], named: str, names: Sequence[object] | None, path: str) -> Axes:
    """Axes of length 1 go: a trailing channel first, since x is never 1, then time and channel, which come in front."""
    kept = list(range(len(shape)))
    for axis in [axis for axis, letter in enumerate(named) if letter in "tc" and shape[axis] == 1]:
        kept.remove(axis)
    while len(kept) > 3 and any(shape[axis] == 1 for axis in kept):
        kept.remove(kept[-1] if shape[kept[-1]] == 1 else next(axis for axis in kept if shape[axis] == 1))
    slices = kept[0] if len(kept) == 3 and named[kept[0]] == "t" else None
    if len(kept) not in (2, 3) or any(named[axis] in "tc" and axis != slices for axis in kept):
        raise _refuse(shape, names, path)
    lengths = [shape[axis] for axis in kept]
    if len(kept) == 3 and lengths[-1] in (3, 4):
        raise InputError(
            f"{path}: {format_shape(lengths)} looks like a colour image; expected grey (z, y, x): convert it"
        )
    return Axes(*([None] * (3 - len(kept))), *kept)


def _refuse(shape: Sequence[int], names: Sequence[object] | None, path: str, reason: str = "") -> InputError:
    stated = f", with the axes {' '.join(map(str, names))}" if names is not None else ""
    return InputError(
        f"{path}: is {len(shape)}-D ({format_shape(shape)}){stated}; expected one stack (z, y, x): "
        f"{reason or 'save one channel and time point alone'}"
    )
