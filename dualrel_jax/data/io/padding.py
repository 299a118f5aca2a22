"""Padding: the parts of a slice without tissue, such as the margins of aligned and the corners of rotated slices."""

import numpy as np
from scipy import ndimage

_LEAST = 256  # pixels; a smaller area of one grey value may be saturated tissue
_LONG = 32  # pixels; tissue that is mirrored is this wide at least
_BLURRED = 2  # pixels beside padding that a rotation or a resampling has mixed with it


def padding(image: np.ndarray) -> np.ndarray:
    """Where a slice holds no tissue: y x of any dtype -> y x bool.

    Areas of one grey value, connected along y and x, that reach the border of the slice: of 256 pixels or more, in
    slices below 64 x 64 of a sixteenth of their pixels.
    """
    found, least = np.zeros(image.shape, bool), min(_LEAST, image.size // 16)
    border = np.ones(image.shape, bool)
    border[1:-1, 1:-1] = False
    for value in _repeated(image):
        areas, count = ndimage.label(image == value)
        large = np.bincount(areas.ravel(), minlength=count + 1) >= least
        large[0] = False
        reaches = np.zeros(count + 1, bool)
        reaches[areas[border]] = True
        found |= (large & reaches)[areas]
    return found


def _repeated(image: np.ndarray) -> list:
    """The grey values that the border of a slice has 16 times or more beside themselves: few, in tissue hardly any."""
    lines = image[0], image[-1], image[:, 0], image[:, -1]
    beside = np.concatenate([line[1:][line[1:] == line[:-1]] for line in lines])
    values, counts = np.unique(beside, return_counts=True)
    return values[counts >= min(16, image.size // 16)].tolist()


def away_from_padding(image: np.ndarray, reach: float = 0) -> np.ndarray:
    """Where a filter of `reach` pixels sees tissue alone, no padding nor what is mixed with it: y x -> y x bool.

    The edge of padding is stronger than any membrane.
    """
    padded = padding(image)
    if padded.any():
        padded = ndimage.maximum_filter(padded, 2 * (int(np.ceil(reach)) + _BLURRED) + 1)
    return ~padded


def tissue_values(image: np.ndarray, step: int = 1) -> np.ndarray:
    """Every `step`-th pixel along y and x that is no padding; all of them where nothing else is there: y x -> n."""
    sampled, tissue = image[::step, ::step], ~padding(image)[::step, ::step]
    return sampled[tissue] if tissue.any() else sampled.ravel()


def mirror_tissue(image: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """The slice with tissue mirrored into `empty`: (y x, y x bool) -> y x. What no tissue reaches stays as it is.

    Along the axis, y or x, on which the tissue is nearer.
    """
    for _ in range(2):  # the second time into corners, from what was filled
        along_x, empty_x, distance_x = _mirrored(image, empty)
        along_y, empty_y, distance_y = (array.T for array in _mirrored(image.T, empty.T))
        nearer = distance_x <= distance_y
        image, empty = np.where(nearer, along_x, along_y), np.where(nearer, empty_x, empty_y)
    return image


def _mirrored(image: np.ndarray, empty: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each row's tissue, from its first to its last pixel, mirrored beyond these.

    -> (image, what is still empty, distance to the tissue of the row in pixels), y x each.
    """
    tissue, width = ~empty, image.shape[1]
    first = tissue.argmax(axis=1)[:, None]
    last = width - 1 - tissue[:, ::-1].argmax(axis=1)[:, None]
    length, x = last - first + 1, np.arange(width)[None]
    at = (x - first) % (2 * length)
    source = first + np.where(at < length, at, 2 * length - 1 - at)
    reached = tissue.any(axis=1)[:, None] & (length >= min(_LONG, width))
    distance = np.where(reached, np.maximum(np.maximum(first - x, x - last), 0), 2 * max(image.shape))
    beyond = reached & (distance > 0)
    filled = np.where(beyond, np.take_along_axis(image, source, axis=1), image)
    return filled, np.where(beyond, np.take_along_axis(empty, source, axis=1), empty), distance
