"""Which level of a multiscale pyramid is read, and how its voxels lie in level 0."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.errors import InputError

_TOLERANCE = 1.01  # sizes are rounded: a level of 20.1 nm is one of 20 nm


@dataclass(frozen=True)
class LevelChoice:
    """What level is asked for.

    Attributes:
        level: "auto", or its number as text.
        pixel_nm: pixel size (y, x) of the training, which `auto` compares levels with; None where it is unknown.
        voxel_nm: of level 0, z y x, where the user states it; None: as the file states.
        key: the config field that asks.
    """

    level: str = "0"
    pixel_nm: tuple[float, float] | None = None
    voxel_nm: Voxel | None = None
    key: str = "level"


FINEST = LevelChoice()


@dataclass(frozen=True)
class Level:
    """A level of a pyramid; all but `index` and `last` are z y x.

    Attributes:
        index: 0 is the finest.
        last: index of the coarsest.
        shape: of this level.
        full_shape: of level 0.
        factors: voxels of level 0 in one of this level, along each axis; not always whole numbers.
        shift: where the centre of the first voxel lies, in voxels of level 0 from the centre of its first one.
        voxel_nm: of this level, or None.
        origin_nm: of the centre of its first voxel, as the file places the image; zeros where it does not.
    """

    index: int
    last: int
    shape: tuple[int, int, int]
    full_shape: tuple[int, int, int]
    factors: tuple[float, float, float]
    shift: tuple[float, float, float]
    voxel_nm: Voxel | None
    origin_nm: tuple[float, float, float]

    def from_full(self, box: Sequence[slice]) -> tuple[slice, ...]:
        """The voxels of this level that cover a box of voxels of level 0, axis by axis; at least one."""
        covering = []
        for part, factor, shift, length in zip(box, self.factors, self.shift, self.shape, strict=True):
            corner = shift - (factor - 1) / 2  # where the first voxel of this level begins
            start = min(max(math.floor((part.start - corner) / factor + 1e-6), 0), length - 1)
            stop = min(max(math.ceil((part.stop - corner) / factor - 1e-6), start + 1), length)
            covering.append(slice(start, stop))
        return tuple(covering)

    def cropped(self, full: Sequence[slice], own: Sequence[slice]) -> "Level":
        """Of the part `own` of this level, as the level of a volume that is the part `full` of level 0."""
        axes = zip(self.shift, self.factors, own, full, strict=True)
        shift = (at + part.start * factor - whole.start for at, factor, part, whole in axes)
        shape, full_shape = (tuple(part.stop - part.start for part in box) for box in (own, full))
        return dataclasses.replace(self, shape=shape, full_shape=full_shape, shift=tuple(shift))


def choose_level(levels: Sequence[Level], choice: LevelChoice, path: str) -> tuple[Level, str]:
    """(the level that is read, why in words).

    `auto` takes the coarsest level whose pixels (y, x) are not larger than those of the training. Of levels with fewer
    slices than level 0 only those count whose slices, too, are no farther apart than these pixels.

    Raises:
        InputError: no such level.
    """
    if choice.level != "auto":
        named = {str(level.index): level for level in levels}
        if choice.level not in named:
            numbers = ", ".join(named) or "0"
            raise InputError(
                f"{path}: {choice.key}={choice.level}, but its levels are {numbers}; expected auto or one of these."
            )
        return named[choice.level], f"{choice.key}={choice.level}"
    if choice.pixel_nm is None:
        return levels[0], "the pixel size of the training is unknown"
    sizes = [_voxel(level, choice) for level in levels]
    if sizes[0] is None:
        return levels[0], "its voxel size is unknown"
    trained_nm = choice.pixel_nm
    fine = [
        (level, size[0])
        for level, size in zip(levels, sizes, strict=True)
        if size is not None and all(own <= _TOLERANCE * nm for own, nm in zip(size[1:], trained_nm, strict=True))
    ]
    trained = f"pixels of the training, {trained_nm[0]:g} x {trained_nm[1]:g} nm"
    if not fine:
        return levels[0], f"even its pixels are larger than the {trained}"
    kept = [level for level, z in fine if level.shape[0] == level.full_shape[0] or not z > _TOLERANCE * max(trained_nm)]
    level = kept[-1] if kept else levels[0]
    slices = "" if level is fine[-1][0] else ", and that keeps the slices"
    return level, f"the coarsest whose pixels are not larger than the {trained}{slices}"


def _voxel(level: Level, choice: LevelChoice) -> Voxel | None:
    if choice.voxel_nm is None:
        return level.voxel_nm
    return scaled(choice.voxel_nm, level.factors)


def scaled(voxel_nm: Voxel, factors: Sequence[float]) -> Voxel:
    """The voxel size of a level, from that of level 0; z may be nan."""
    z, y, x = (float(f"{size * factor:.6g}") for size, factor in zip(voxel_nm, factors, strict=True))
    return z, y, x
