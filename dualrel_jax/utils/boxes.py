"""Boxes of a volume, in voxels `z y x`: as text, and those that it is divided into."""

import itertools
import math
import re
from collections.abc import Iterable, Sequence

Box = tuple[slice, slice, slice]  # z y x, whole numbers
Shape = tuple[int, int, int]


_RANGE = re.compile(r"\s*(?:(\d*)\s*:\s*(\d*))?\s*", re.ASCII)


def whole(shape: Shape) -> Box:
    return tuple(slice(0, length) for length in shape)


def parse_box(text: str, outer: Box) -> Box:
    """The box `z0:z1` or `z0:z1,y0:y1,x0:x1` inside `outer`, whose parts and ends may be left out.

    Raises:
        ValueError: another form, or not inside, in words.
    """
    parts = text.split(",")
    if len(parts) not in (1, 3):
        raise ValueError("expected slices, z0:z1, or a box, z0:z1,y0:y1,x0:x1, of which any part may be left out")
    box = []
    for axis, part, limits in zip("zyx", (*parts, "", ""), outer, strict=False):
        found = _RANGE.fullmatch(part)
        start, stop = (int(found[1] or limits.start), int(found[2] or limits.stop)) if found else (0, 0)
        if not limits.start <= start < stop <= limits.stop:
            raise ValueError(
                f"{axis} is {part.strip()!r}, expected a range inside {limits.start}:{limits.stop}, its start first"
            )
        box.append(slice(start, stop))
    return tuple(box)


def format_box(box: Iterable[slice]) -> str:
    """As `parse_box` reads it."""
    return ",".join(f"{part.start}:{part.stop}" for part in box)


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


def within(box: Iterable[slice | range], outer: Iterable[slice]) -> tuple[slice, ...]:
    """`box` in voxels of `outer`; of any number of axes."""
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
