"""Overlapping tiles over a slice of any size, merged back with blended borders."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dualrel_jax.errors import InputError


@dataclass(frozen=True)
class Tiles:
    """Where the tiles of one slice lie and how much each counts at each pixel.

    Along each axis as few tiles as `tile` allows are spread evenly, so that neighbours share at least `overlap` pixels.
    All tiles of a slice have one size, the least that covers it, so a jitted model compiles once and computes little
    twice. None reaches outside but by less than `multiple` pixels, where the slice is reflected. A tile's weight
    falls smoothly (sin^2 over `overlap` pixels) towards its border, where a convolutional network sees least context,
    and never reaches zero; the weights at each pixel sum to one.

    Attributes:
        shape_yx: shape of the slice, pixels.
        tile: largest side of a tile, pixels; rounded up to `multiple`.
        overlap: least number of pixels that neighbouring tiles share; below `tile`.
        multiple: what the model's downsampling divides a side by, stem 2^(depth - 1) for a U-Net.

    Raises:
        InputError: the slice is empty.
    """

    shape_yx: tuple[int, int]
    tile: int
    overlap: int
    multiple: int = 1

    def __post_init__(self):
        if len(self.shape_yx) != 2 or min(self.shape_yx) < 1:
            raise InputError(
                f"A slice of shape {tuple(self.shape_yx)} cannot be tiled, expected y x of at least 1 x 1."
            )
        object.__setattr__(self, "shape_yx", tuple(map(int, self.shape_yx)))
        object.__setattr__(self, "tile", -(-self.tile // self.multiple) * self.multiple)

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def tile_yx(self) -> tuple[int, int]:
        """Shape of every tile, pixels."""
        return tuple(
            -(-math.ceil((size + (n - 1) * self.overlap) / n) // self.multiple) * self.multiple
            for size, n in zip(self.shape_yx, self._counts, strict=True)
        )

    @cached_property
    def positions(self) -> list[tuple[int, int]]:
        """Top left corner (y, x) of each tile in the padded slice, row by row."""
        ys, xs = (starts.tolist() for starts in self._starts)
        return [(y, x) for y in ys for x in xs]

    def cut(self, image: np.ndarray) -> np.ndarray:
        """`y x [c]` -> `n tile_y tile_x [c]`, of the image's dtype."""
        if image.shape[:2] != self.shape_yx:
            raise ValueError(f"expected a slice of shape {self.shape_yx}, got {image.shape}")
        padded = np.pad(image, [*self._padding, *[(0, 0)] * (image.ndim - 2)], mode="reflect")
        height, width = self.tile_yx
        return np.stack([padded[y : y + height, x : x + width] for y, x in self.positions])

    def merge(self, tiles: np.ndarray) -> np.ndarray:
        """`n tile_y tile_x [c]` -> `y x [c]` float32, the weighted mean of the tiles at each pixel."""
        height, width = self.tile_yx
        if tiles.shape[:3] != (len(self), height, width):
            raise ValueError(f"expected tiles of shape {(len(self), height, width)}, got {tiles.shape}")
        channels = tiles.shape[3:]
        (top, bottom), (left, right) = self._padding
        y_size, x_size = self.shape_yx
        merged = np.zeros((top + y_size + bottom, left + x_size + right, *channels), np.float32)
        weights_y, weights_x = self._weights
        weights = (np.multiply.outer(y, x) for y in weights_y for x in weights_x)
        for (y, x), weight, tile in zip(self.positions, weights, tiles, strict=True):
            merged[y : y + height, x : x + width] += weight.reshape(weight.shape + (1,) * len(channels)) * tile
        return merged[top : top + y_size, left : left + x_size]

    @cached_property
    def _counts(self) -> list[int]:
        """Tiles along y and along x."""
        return [1 + -(-max(size - self.tile, 0) // (self.tile - self.overlap)) for size in self.shape_yx]

    @cached_property
    def _padding(self) -> list[tuple[int, int]]:
        """Pixels added before and after the slice along y and x."""
        missing = [max(tile - size, 0) for tile, size in zip(self.tile_yx, self.shape_yx, strict=True)]
        return [(pixels // 2, pixels - pixels // 2) for pixels in missing]

    @cached_property
    def _starts(self) -> list[np.ndarray]:
        """First pixel of each row of tiles along y, and of each column along x."""
        spare = [max(size - tile, 0) for size, tile in zip(self.shape_yx, self.tile_yx, strict=True)]
        return [np.arange(n) * pixels // max(n - 1, 1) for pixels, n in zip(spare, self._counts, strict=True)]

    @cached_property
    def _weights(self) -> list[np.ndarray]:
        """Per axis `n tile` float32: the window of each tile over the sum of all windows at its pixels.

        The window is a product of one in y and one in x and tiles lie on a grid, so the normalised weight is one too.
        """
        weights = []
        for starts, side in zip(self._starts, self.tile_yx, strict=True):
            from_border = np.minimum(np.arange(side), np.arange(side)[::-1]) + 0.5
            window = np.sin(np.pi / 2 * np.minimum(from_border / max(self.overlap, 1), 1)) ** 2
            at = starts[:, None] + np.arange(side)
            total = np.bincount(at.ravel(), weights=np.tile(window, len(starts)))
            weights.append((window / total[at]).astype(np.float32))
        return weights
