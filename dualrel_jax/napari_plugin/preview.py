"""In which order the tiles of a volume are segmented, so that what is on screen comes first."""

import math
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from dualrel_jax.data.datasets.registry import training_shape
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.inference import z_smoothing
from dualrel_jax.inference.volume_predictor import ProbabilitySlice, VolumePredictor, to_bytes
from dualrel_jax.inference.windows import Window, windows

_NEIGHBOURS = 4  # slices on either side that are segmented ahead
_TILES_AROUND = 24  # that are segmented beside those on screen
_KEPT_BYTES = 512 << 20


@dataclass(frozen=True)
class View:
    """What is on screen: a slice, and its part y x in voxels."""

    z: int
    yx: tuple[slice, slice]


@dataclass(frozen=True)
class Patch:
    """Probabilities of a part of a slice, uint8 `y x`, 255 means 1."""

    z: int
    yx: tuple[slice, slice]
    probability: np.ndarray


@dataclass
class Preview:
    """Segments a volume tile by tile: what is on screen, tiles beside it, means along z, tiles around, other slices.

    A tile of one slice takes a moment. The mean over z that `predict` makes needs the slices around it; then the tile
    is as `predict` gives it. All tiles have one shape, for which the network is compiled once.

    Attributes:
        sigma: of the Gaussian mean along z, in slices; 0: none.
    """

    model: VolumePredictor
    volume: Volume
    sigma: float
    _single: OrderedDict[tuple[int, int], ProbabilitySlice] = field(default_factory=OrderedDict, init=False)
    _shown: dict[tuple[int, int], bool] = field(default_factory=dict, init=False)  # (z, tile) -> is it a mean

    def __post_init__(self):
        self.tiles = tiles_of(self.model, self.volume)
        self._radius = z_smoothing.reach(self.sigma) if self.sigma else 0

    def next(self, view: View) -> list[Patch] | None:
        """Does what is of most use to `view`; -> what is new; None if nothing is left to do for it."""
        for z, i, mean in self._order(view):
            if self._shown.get((z, i)) is None:
                return self._alone(z, i)
            if mean and not self._shown[z, i]:
                around = range(max(z - self._radius, 0), min(z + self._radius + 1, len(self.volume)))
                for at in sorted(around, key=lambda at: abs(at - z)):
                    if (at, i) not in self._single:
                        return self._alone(at, i)
                return [self._mean(z, i, around)]
        return None

    def finish(self, z: int) -> None:
        """Marks a slice as segmented by other means."""
        self._shown |= {(z, i): True for i in range(len(self.tiles))}

    def is_shown(self, view: View) -> bool:
        """Whether all that is on screen is segmented."""
        return all((view.z, i) in self._shown for i in self._within(view.yx))

    def is_mean(self, view: View) -> bool:
        """Whether all that is on screen is averaged along z."""
        return all(self._shown.get((view.z, i)) for i in self._within(view.yx))

    def _within(self, yx: tuple[slice, slice]) -> list[int]:
        """The tiles that a rectangle touches, those in its middle first."""
        touched = [i for i, tile in enumerate(self.tiles) if _overlap(tile.inner, yx)]
        return sorted(touched, key=lambda i: _distance(self.tiles[i].inner, yx))

    def zs(self) -> set[int]:
        """Slices with a tile that was segmented."""
        return {z for z, _ in self._shown}

    def _order(self, view: View):
        """(slice, tile, whether its mean is wanted), the most useful first."""
        visible = self._within(view.yx)
        beside = [i for i in self._within(_doubled(view.yx)) if i not in visible]
        around = sorted(range(len(self.tiles)), key=lambda i: _distance(self.tiles[i].inner, view.yx))
        yield from ((view.z, i, False) for i in (*visible, *beside[:_TILES_AROUND]))
        yield from ((view.z, i, self._radius > 0) for i in visible)
        yield from ((view.z, i, False) for i in around[: len(visible) + _TILES_AROUND])
        for distance in range(1, _NEIGHBOURS + 1):
            for z in (view.z + distance, view.z - distance):
                yield from ((z, i, False) for i in visible if 0 <= z < len(self.volume))

    def _alone(self, z: int, i: int) -> list[Patch]:
        """A tile of one slice; nothing new if it was shown before."""
        tile = self.tiles[i]
        [probability] = self.model.probability_slices(self.volume.crop(slice(z, z + 1), *tile.outer))
        single = None if probability is None else probability[tile.kept].astype(np.float16)
        self._single[z, i] = single
        most = max(2 * self._radius + 2, _KEPT_BYTES // (2 * math.prod(_shape(tile.inner))))
        while len(self._single) > most:
            self._single.popitem(last=False)
        if (z, i) in self._shown:
            return []
        self._shown[z, i] = not self._radius
        return [self._patch(z, i, single)]

    def _mean(self, z: int, i: int, around: range) -> Patch:
        for at in around:
            self._single.move_to_end((at, i))
        slices = (self._single[at, i] for at in around)
        [mean] = z_smoothing.smoothed(slices, around, [z], self.sigma)
        self._shown[z, i] = True
        return self._patch(z, i, mean)

    def _patch(self, z: int, i: int, probability: ProbabilitySlice) -> Patch:
        yx = self.tiles[i].inner
        return Patch(z, yx, to_bytes(probability, _shape(yx)))


def _shape(yx: tuple[slice, slice]) -> tuple[int, int]:
    return tuple(part.stop - part.start for part in yx)


def tiles_of(model: VolumePredictor, volume: Volume) -> list[Window]:
    """Tiles of the slices: a whole slice if the network takes it at once, else tiles whose surroundings have one shape.

    They have the predictor's size in training pixels, or a little less.
    """
    shape, seen = volume.shape[1:], training_shape(volume, model.pixel_nm)
    tile = tuple(max(model.tile * n // small, 1) for n, small in zip(shape, seen, strict=True))
    halo = tuple(math.ceil(model.overlap * n / small) for n, small in zip(shape, seen, strict=True))
    side = max(min(t - 2 * h for t, h in zip(tile, halo, strict=True)), 1)
    side = 0 if all(n <= t for n, t in zip(shape, tile, strict=True)) else side
    return list(windows(tuple(slice(0, n) for n in shape), shape, side, halo, tile))


def _overlap(a: tuple[slice, slice], b: tuple[slice, slice]) -> bool:
    return all(p.start < q.stop and q.start < p.stop for p, q in zip(a, b, strict=True))


def _doubled(yx: tuple[slice, slice]) -> tuple[slice, slice]:
    """A rectangle of twice the size around the same middle."""
    grow = ((part.stop - part.start) // 2 for part in yx)
    return tuple(slice(part.start - more, part.stop + more) for part, more in zip(yx, grow, strict=True))


def _distance(a: tuple[slice, slice], b: tuple[slice, slice]) -> float:
    """Between the middles of two rectangles."""
    return math.hypot(*((p.start + p.stop - q.start - q.stop) / 2 for p, q in zip(a, b, strict=True)))
