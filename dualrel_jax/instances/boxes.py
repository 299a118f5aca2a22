"""Geometry of the boxes that a volume is divided into, in voxels `z y x`."""

import itertools
import math
from collections.abc import Sequence

Box = tuple[slice, slice, slice]  # z y x, whole numbers
Shape = tuple[int, int, int]


def grid(shape: Shape, sides: Sequence[int]) -> list[Box]:
    """Boxes of at most `sides` voxels that cover the volume once, in the order of their corners."""
    starts = [range(0, length, side) for length, side in zip(shape, sides, strict=True)]
    return [
        tuple(slice(at, min(at + side, length)) for at, side, length in zip(corner, sides, shape, strict=True))
        for corner in itertools.product(*starts)
    ]


def grown(box: Box, halo: Sequence[int], shape: Shape) -> Box:
    """`box` with `halo` voxels more on both sides of each axis, as far as the volume reaches."""
    return tuple(
        slice(max(part.start - more, 0), min(part.stop + more, length))
        for part, more, length in zip(box, halo, shape, strict=True)
    )


def open_ends(box: Box, shape: Shape) -> list[tuple[bool, bool]]:
    """For each axis whether the volume continues before and behind the box."""
    return [(part.start > 0, part.stop < length) for part, length in zip(box, shape, strict=True)]


def size(box: Box) -> Shape:
    return tuple(part.stop - part.start for part in box)


def within(box: Box, outer: Box) -> Box:
    """`box` in voxels of `outer`."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, outer, strict=True))


def overlapping(box: Box, shape: Shape, sides: Sequence[int]) -> list[tuple[int, Box]]:
    """The boxes of `grid(shape, sides)` that `box` shares voxels with: (position in that list, shared part)."""
    counts = [math.ceil(length / side) for length, side in zip(shape, sides, strict=True)]
    ranges = [
        range(part.start // side, min((part.stop - 1) // side + 1, n))
        for part, side, n in zip(box, sides, counts, strict=True)
    ]
    shared = []
    for at in itertools.product(*ranges):
        part = tuple(
            slice(max(b.start, i * side), min(b.stop, (i + 1) * side))
            for b, i, side in zip(box, at, sides, strict=True)
        )
        shared.append(((at[0] * counts[1] + at[1]) * counts[2] + at[2], part))
    return shared
