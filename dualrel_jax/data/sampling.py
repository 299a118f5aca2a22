"""Where a crop is cut: the one rule behind the tf.data and the resident pipeline.

Both draw five uniform numbers a crop and pass them here, as NumPy or as JAX values; a crop is a pure function of them.
"""

from typing import Any, NamedTuple

import numpy as np

from dualrel_jax.data.datasets import Part
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


def check_fits(slices: list[SliceOf], crop: int) -> None:
    """InputError if a crop is larger than a slice."""
    for part in {slice_of.part.name: slice_of.part for slice_of in slices}.values():
        y, x = part.shape_at_training
        if min(y, x) < crop:
            raise InputError(
                f"A crop of {crop} x {crop} pixels (config.train.patch and what augmentation adds) is larger than the "
                f"slices of {part.name}, {y} x {x} pixels at the training pixel size; lower --config.train.patch or "
                "--config.data.pixel_nm."
            )


def foreground_points(label: np.ndarray, seed: int) -> np.ndarray:
    """At most POINTS mitochondrion pixels of a label y x, drawn by seed: n 2 (y, x) int32."""
    points = np.argwhere(label == 1).astype(np.int32)
    if len(points) > POINTS:
        points = np.random.Generator(np.random.Philox(seed)).choice(points, POINTS, replace=False)
    return points


def pick(u: Any, n: int, xp: Any) -> Any:
    """Index 0..n-1 from u in [0, 1); float rounding cannot reach n."""
    return xp.minimum((u * xp.asarray(n, np.float32)).astype(np.int32), n - 1)


def place_crop(u: Any, size: Any, crop: int, points: Any, num_points: Any, foreground_share: float, xp: Any) -> Any:
    """Upper left corner (y, x) of a crop, from uniform numbers u[0..3].

    With chance `foreground_share` a random pixel of `points` (n 2, the first `num_points` count) lies at a random
    place of the crop; otherwise, and in a slice without foreground, every position is equally likely.
    xp is numpy or jax.numpy.
    """
    span = size - crop
    anywhere = pick(u[2:4], span + 1, xp)
    point = points[pick(u[1], xp.maximum(num_points, 1), xp)]
    around = xp.clip(point - pick(u[2:4], crop, xp), 0, span)
    return xp.where((u[0] < foreground_share) & (num_points > 0), around, anywhere)
