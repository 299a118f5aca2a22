"""Where a crop is cut: the one rule behind the tf.data and the resident pipeline.

Both draw five uniform numbers a crop and pass them here, as NumPy or as JAX values; a crop is a pure function of them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from dualrel_jax.constants import IGNORE
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.io.padding import padding
from dualrel_jax.errors import InputError

DRAWS = 5  # uniform numbers in [0, 1) a crop needs
POINTS = 1024  # foreground pixels remembered a slice


class SliceOf(NamedTuple):
    """One slice of the training set."""

    part: Part
    z: int


def resolve(parts: tuple[Part, ...], entries: tuple[tuple[str, int], ...]) -> list[SliceOf]:
    """Slices named by a partition, as (part, z)."""
    by_name = {part.name: part for part in parts}
    return [SliceOf(by_name[name], z) for name, z in entries]


def check_fits(slices: list[SliceOf], crop_px: int, multiple: int = 1) -> None:
    """InputError if a crop is larger than a slice; `multiple`: what divides the side of a crop."""
    for part in {slice_of.part.name: slice_of.part for slice_of in slices}.values():
        y, x = part.shape_at_training
        if min(y, x) >= crop_px:
            continue
        fits = min(y, x) // multiple * multiple
        lower = f"set --config.train.crop_px={fits}, or lower" if fits else "lower"
        raise InputError(
            f"A crop of {crop_px} x {crop_px} pixels (config.train.crop_px) is larger than the slices of {part.name}, "
            f"{y} x {x} pixels at the training pixel size; {lower} --config.data.pixel_nm."
        )


def mirror(image: np.ndarray, margin: int) -> np.ndarray:
    """A slice y x continued on every side by its mirror image, `margin` pixels wide.

    A crop is cut with this margin too: it begins in the mirrored slice where it begins in the slice itself without it.
    """
    return np.pad(image, margin, mode="symmetric")


def mirrored_window(
    read: Callable[[tuple[slice, slice]], np.ndarray],
    shape: tuple[int, int],
    corner: Sequence[int],
    side: int,
    margin: int,
) -> np.ndarray:
    """`mirror(slice, margin)[y : y + side, x : x + side]` from a part of the slice; `corner` is (y, x).

    `shape` is that of the slice; the side is at least twice the margin.
    """
    inside, beyond = [], []
    for at, length in zip(corner, shape, strict=True):
        start, stop = int(at) - margin, int(at) - margin + side
        inside.append(slice(max(start, 0), min(stop, length)))
        beyond.append((max(-start, 0), max(stop - length, 0)))
    return np.pad(read(tuple(inside)), beyond, mode="symmetric")


def foreground_points(label: np.ndarray, seed: int) -> np.ndarray:
    """At most POINTS mitochondrion pixels of a label y x, drawn by seed: n 2 (y, x) int32."""
    points = np.argwhere(label == 1).astype(np.int32)
    if len(points) > POINTS:
        points = np.random.Generator(np.random.Philox(seed)).choice(points, POINTS, replace=False)
    return points


def slice_ends(slices: list[SliceOf], volumes_equal: bool) -> np.ndarray:
    """Cumulative probability of the slices, by which `pick_slice` draws one: n, float32, the last 1.

    Every slice is equally likely or, with `volumes_equal`, every volume, however many slices it has: a new
    microscope's few slices count as much as the many of the old one.
    """
    sizes = Counter(part.name for part, _ in slices)
    ends = np.cumsum([1 / sizes[part.name] if volumes_equal else 1.0 for part, _ in slices])
    return (ends / ends[-1:]).astype(np.float32)


def pick_slice(u: Any, ends: Any, xp: Any) -> Any:
    """Index of a slice from u in [0, 1) and its `slice_ends`."""
    return xp.searchsorted(ends, u, side="right").astype(np.int32)


def pick(u: Any, n: int, xp: Any) -> Any:
    """Index 0..n-1 from u in [0, 1); float rounding cannot reach n."""
    return xp.minimum((u * xp.asarray(n, np.float32)).astype(np.int32), n - 1)


def known_box(label: np.ndarray) -> np.ndarray:
    """The box around the labelled pixels of a label y x, those not to be ignored: first pixel and end, 2 2 int32.

    The box of the whole slice where every pixel is to be ignored.
    """
    known = label != IGNORE
    rows, columns = (np.flatnonzero(known.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return whole_box(label.shape)
    return np.array([[rows[0], columns[0]], [rows[-1] + 1, columns[-1] + 1]], np.int32)


def tissue_box(image: np.ndarray, label: np.ndarray | None = None) -> np.ndarray:
    """`known_box` of a slice y x, of which padding teaches nothing, with or without a label y x."""
    return known_box(np.where(padding(image), IGNORE, 0 if label is None else label))


def whole_box(size_yx: Sequence[int]) -> np.ndarray:
    """The box of a whole slice: 2 2 int32."""
    return np.stack([np.zeros(2, np.int32), np.asarray(size_yx, np.int32)])


class Content(NamedTuple):
    """What `place_crop` knows of a slice, as NumPy or JAX values."""

    size: Any  # 2 (y, x), pixels
    known: Any  # 2 2, `tissue_box`: first pixel and end
    points: Any  # n 2 (y, x), mitochondrion pixels, of which the first `num_points` count
    num_points: Any


def place_crop(u: Any, content: Content, crop_px: int, *, foreground_crop_fraction: float, xp: Any) -> Any:
    """Upper left corner (y, x) of a crop, from uniform numbers u[0..3].

    With chance `foreground_crop_fraction` a random mitochondrion pixel lies at a random place of the crop. Otherwise,
    and in a slice without foreground, every position is equally likely at which the centre of the crop lies in the box
    `known`, or as near to it as the border of the slice allows. xp is numpy or jax.numpy.
    """
    span = content.size - crop_px
    low, high = (xp.clip(edge - crop_px // 2, 0, span) for edge in (content.known[0], content.known[1]))
    anywhere = low + pick(u[2:4], high - low + 1, xp)
    point = content.points[pick(u[1], xp.maximum(content.num_points, 1), xp)]
    around = xp.clip(point - pick(u[2:4], crop_px, xp), 0, span)
    return xp.where((u[0] < foreground_crop_fraction) & (content.num_points > 0), around, anywhere)
