"""Change the pixel size of slices, images, labels or probabilities, in y and x only: the method is 2-D."""

import functools
import numbers
from collections.abc import Callable

import numpy as np
import scipy.sparse

from dualrel_jax.constants import IGNORE

_TIE = 1e-5  # shares are sums of float32 weights


def resample_image(image_yx: np.ndarray, factor_or_shape: float | tuple[int, int]) -> np.ndarray:
    """Area average where it shrinks, linear where it grows; the field of view stays the same.

    Args:
        image_yx: `y x`, any numeric type; whole numbers come back rounded.
        factor_or_shape: pixels out per pixel in, or (y, x) of the result.
    """
    if isinstance(factor_or_shape, numbers.Real):
        shape = tuple(max(1, round(length * factor_or_shape)) for length in image_yx.shape)
    else:
        shape = tuple(factor_or_shape)
    if shape == image_yx.shape:
        return image_yx
    return _averaged(image_yx, *(_weights(before, after) for before, after in zip(image_yx.shape, shape, strict=True)))


def resample_window(
    read: Callable[[slice, slice], np.ndarray],
    shapes: tuple[tuple[int, int], tuple[int, int]],
    window_yx: tuple[slice, slice],
) -> np.ndarray:
    """`resample_image(whole, shape)[window_yx]`, of which only what the window needs is read.

    Args:
        read: `read(rows, columns)` returns that part of the whole, `y x`.
        shapes: (y, x) of the whole as it is read, and of the result.
        window_yx: in pixels of the result.
    """
    if shapes[0] == shapes[1]:
        return read(*window_yx)
    weights, spans = [], []
    for before, after, part in zip(*shapes, window_yx, strict=True):
        rows = _weights(before, after)[part]
        spans.append(slice(int(rows.indices.min()), int(rows.indices.max()) + 1))
        weights.append(rows[:, spans[-1]])
    return _averaged(read(*spans), *weights)


def _averaged(image: np.ndarray, rows: scipy.sparse.csr_array, columns: scipy.sparse.csr_array) -> np.ndarray:
    exact = np.result_type(image.dtype, np.float32)  # float64 for 32-bit whole numbers
    average = (columns @ (rows @ image.astype(exact, copy=False)).T).T.astype(exact, copy=False)
    return (average if image.dtype.kind == "f" else np.rint(average)).astype(image.dtype, copy=False)


def resample_label(label_yx: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """uint8 `y x` in {0, 1, 255 = ignore} -> the same at `shape`, by what covers most of each new pixel.

    Ignore wins where it covers more than half; otherwise the larger of foreground and background. Halving makes
    equal shares common along every outline; those go to either side by turns, as on a chessboard: as background
    they would cost a Lucchi mask 2 % of its area.
    """
    if tuple(shape) == label_yx.shape:
        return label_yx
    foreground, ignore = (_weighted((label_yx == kind).astype(np.float32), shape) for kind in (1, IGNORE))
    lead = foreground - (1 - foreground - ignore)
    needed = np.where(np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 2, _TIE, -_TIE)
    label = np.where(lead > needed, np.uint8(1), np.uint8(0))
    label[ignore > 0.5 + _TIE] = IGNORE
    return label


def resample_probability(probability_yx: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """float32 `y x` in 0..1 -> the same at `shape`: linear where it grows, area average where it shrinks."""
    return resample_image(probability_yx.astype(np.float32, copy=False), tuple(shape)).clip(0, 1)


def _weighted(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = (_weights(before, after) for before, after in zip(image.shape, shape, strict=True))
    return (columns @ (rows @ image).T).T.astype(image.dtype, copy=False)


@functools.lru_cache(maxsize=32)
def _weights(before: int, after: int) -> scipy.sparse.csr_array:
    """(after, before): how much each old pixel counts in each new one; rows sum to 1."""
    edges = np.linspace(0, before, after + 1)
    if after < before:
        # Old pixel j covers [j, j + 1]; its weight is the fraction of the new pixel's interval that it covers.
        width = int(np.ceil(before / after)) + 1
        old = np.floor(edges[:-1, None]).astype(int) + np.arange(width)
        weight = (np.minimum(old + 1, edges[1:, None]) - np.maximum(old, edges[:-1, None])).clip(0)
    else:
        centre = ((edges[:-1] + edges[1:]) / 2 - 0.5).clip(0, before - 1)  # beyond the outer centres: the outer value
        old = np.floor(centre).astype(int)[:, None] + np.arange(2)
        weight = 1 - np.abs(centre[:, None] - old)
    weight /= weight.sum(axis=1, keepdims=True)
    new = np.broadcast_to(np.arange(after)[:, None], old.shape)
    used = weight > 0
    entries = (weight[used].astype(np.float32), (new[used], old[used]))
    return scipy.sparse.csr_array(entries, shape=(after, before))
