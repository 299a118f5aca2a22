"""The part of a volume that is segmented, and the blocks it is worked through in."""

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError
from dualrel_jax.utils.ranges import format_box
from dualrel_jax.utils.text import format_shape

Region = tuple[slice, slice, slice]  # z y x, whole numbers


def parse_region(text: str, shape: tuple[int, int, int]) -> Region:
    """`"z0:z1,y0:y1,x0:x1"` in voxels, any part or end left out -> the region of a volume of this shape.

    Raises:
        InputError: another form, or not inside the volume.
    """
    parts = text.split(",") if text else [""] * 3
    found = []
    for axis, part, length in zip("zyx", parts, shape, strict=False):
        match = re.fullmatch(r"\s*(\d*):(\d*)\s*|\s*", part)
        start, stop = (int(match[i] or default) if match else 0 for i, default in ((1, 0), (2, length)))
        if not match or not 0 <= start < stop <= length:
            raise InputError(
                f"config.predict.region is {text!r}; {axis} is {part.strip()!r}, expected a range such as 0:{length} "
                f"inside the volume, which has {format_shape(shape)} voxels (z y x)."
            )
        found.append(slice(start, stop))
    if len(parts) != 3:
        raise InputError(
            f"config.predict.region is {text!r}; expected three ranges, z0:z1,y0:y1,x0:x1, such as 10:20,, for slices "
            "10 to 19."
        )
    return tuple(found)


def region_at_level(text: str, volume: Volume) -> str:
    """A region that is written in voxels of level 0 of a pyramid, in those of the level that `volume` is."""
    if not text or volume.level is None or volume.level.index == 0:
        return text
    region = volume.level.from_full(parse_region(text, volume.level.full_shape))
    print(f"The region {text} of level 0 is {format_box(region)} of level {volume.level.index}.")
    return format_box(region)


@dataclass(frozen=True)
class Box:
    """A part of a volume as plain numbers: first voxel and end along each axis."""

    z: tuple[int, int]
    y: tuple[int, int]
    x: tuple[int, int]

    @classmethod
    def of(cls, region: Region) -> "Box":
        return cls(*((part.start, part.stop) for part in region))

    @property
    def slices(self) -> Region:
        return tuple(slice(*part) for part in (self.z, self.y, self.x))

    def __str__(self) -> str:
        return f"box {self.text}"

    @property
    def text(self) -> str:
        """As `parse_region` reads it."""
        return ",".join(f"{start}:{stop}" for start, stop in (self.z, self.y, self.x))


@dataclass(frozen=True)
class Window:
    """A rectangle y x that is predicted for the sake of the one inside it, whose surroundings it adds.

    Attributes:
        outer: what is read and predicted, in pixels of the volume.
        inner: what is kept, in pixels of the volume.
    """

    outer: tuple[slice, slice]
    inner: tuple[slice, slice]

    @property
    def kept(self) -> tuple[slice, slice]:
        """`inner` in pixels of `outer`."""
        return relative(self.inner, self.outer)


def windows(
    region_yx: tuple[slice, slice], shape_yx: tuple[int, int], side: int, halo: tuple[int, int], least: tuple[int, int]
) -> Iterator[Window]:
    """Windows whose inner rectangles, at most `side` x `side`, cover the region, row by row; side 0: one of any size.

    The outer ones are larger by `halo` pixels (y, x) on each side and at least `least` long, as far as the slice
    reaches. So a window shows the network nearly as much as a whole slice does; where that is one tile, all of it.
    """
    starts = [range(part.start, part.stop, side or part.stop - part.start) for part in region_yx]
    for corner in itertools.product(*starts):
        inner = tuple(
            slice(at, min(at + (side or part.stop), part.stop)) for at, part in zip(corner, region_yx, strict=True)
        )
        yield Window(tuple(map(_widened, inner, shape_yx, halo, least)), inner)


def _widened(part: slice, length: int, halo: int, least: int) -> slice:
    grow = max(halo, -(-(least - (part.stop - part.start)) // 2))
    start, stop = max(part.start - grow, 0), min(part.stop + grow, length)
    # What one border took is given on the other side.
    return slice(max(min(start, stop - least), 0), min(max(stop, start + least), length))


def relative(inner: Iterable[slice | range], outer: Iterable[slice]) -> tuple[slice, ...]:
    """`inner`, axis by axis, counted from the start of `outer`."""
    return tuple(slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))


def slabs(zs: slice, depth: int) -> list[slice]:
    """`zs` in pieces of at most `depth` slices."""
    return [slice(z, min(z + depth, zs.stop)) for z in range(zs.start, zs.stop, depth)]
