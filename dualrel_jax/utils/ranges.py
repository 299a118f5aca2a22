"""Which part of a range or an array to look at: evenly spaced items, the central window."""

from collections.abc import Sequence

import numpy as np


def central_window(shape: Sequence[int], side: int) -> tuple[slice, ...]:
    """The middle of an array of that shape, at most `side` along each axis."""
    starts = (max(0, (size - side) // 2) for size in shape)
    return tuple(slice(start, start + min(side, size)) for start, size in zip(starts, shape, strict=True))


def evenly_spaced(items: Sequence, count: int) -> list:
    """At most `count` of `items`, evenly spread, the first and the last among them."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)]
