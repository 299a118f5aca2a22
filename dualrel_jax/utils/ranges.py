"""Which numbers of a range to look at: evenly spaced items, the central window, runs of consecutive numbers."""

from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np


def central_window(shape: Sequence[int], side: int) -> tuple[slice, ...]:
    """The middle of an array of that shape, at most `side` along each axis."""
    starts = (max(0, (size - side) // 2) for size in shape)
    return tuple(slice(start, start + min(side, size)) for start, size in zip(starts, shape, strict=True))


def evenly_spaced(items: Sequence, count: int) -> list:
    """At most `count` of `items`, evenly spread, the first and the last among them."""
    return [items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)]


def consecutive_runs(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """First and last number of each run of consecutive ones: {1, 2, 3, 7} -> [(1, 3), (7, 7)]."""
    numbered = enumerate(sorted(set(numbers)))
    runs = (list(run) for _, run in groupby(numbered, lambda pair: pair[1] - pair[0]))
    return [(run[0][1], run[-1][1]) for run in runs]


def format_runs(numbers: Iterable[int], most: int | None = None) -> str:
    """{3, 4, 5, 9} -> '3 to 5, 9'; `most`: runs before '...'."""
    runs = consecutive_runs(numbers)
    words = [f"{first}" if first == last else f"{first} to {last}" for first, last in runs[:most]]
    return ", ".join([*words, "..."] if len(words) < len(runs) else words)
