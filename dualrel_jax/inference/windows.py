"""The part of a volume that is segmented, and the blocks it is worked through in."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError
from dualrel_jax.utils.boxes import Box, format_box, parse_box, whole, within
from dualrel_jax.utils.text import format_shape


def parse_region(text: str, shape: tuple[int, int, int]) -> Box:
    """The region that `config.predict.region` says, of a volume of this shape; InputError where it is none."""
    try:
        return parse_box(text, whole(shape))
    except ValueError as error:
        raise InputError(
            f"config.predict.region is {text!r}: {error}; the volume has {format_shape(shape)} voxels (z y x)."
        ) from None


def region_at_level(text: str, volume: Volume) -> str:
    """A region that is written in voxels of level 0 of a pyramid, in those of the level that `volume` is."""
    if not text or volume.level is None or volume.level.index == 0:
        return text
    region = volume.level.from_full(parse_region(text, volume.level.full_shape))
    print(f"The region {text} of level 0 is {format_box(region)} of level {volume.level.index}.")
    return format_box(region)


@dataclass(frozen=True)
class TaskBox:
    """A part of a volume as plain numbers: first voxel and end along each axis."""

    z: tuple[int, int]
    y: tuple[int, int]
    x: tuple[int, int]

    @classmethod
    def of(cls, region: Box) -> "TaskBox":
        return cls(*((part.start, part.stop) for part in region))

    @property
    def slices(self) -> Box:
        return tuple(slice(*part) for part in (self.z, self.y, self.x))

    def __str__(self) -> str:
        return f"box {self.text}"

    @property
    def text(self) -> str:
        """As `parse_region` reads it."""
        return format_box(self.slices)


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
        return within(self.inner, self.outer)


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


def slabs(zs: slice, depth: int) -> list[slice]:
    """`zs` in pieces of at most `depth` slices."""
    return [slice(z, min(z + depth, zs.stop)) for z in range(zs.start, zs.stop, depth)]
