"""Probabilities averaged along z by a Gaussian."""

import math
from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.inference.volume_predictor import ProbabilitySlice

_MIRRORED = (1, 1), (-1, -1), (-1, 1), (1, -1)  # steps along y, x: every fourth slice is seen as it is
_FULL = 65535  # a probability of 1 among the slices that are held
_ROWS = 16  # of the slices, summed at once: they fit into the cache


def knows_z(volume: Volume) -> bool:
    """Whether the distance of the slices of a volume is known."""
    return volume.voxel_nm is not None and not math.isnan(volume.voxel_nm[0])


def smoothing_slices(volume: Volume, smoothing_nm: float) -> float:
    """`predict.z_smoothing_nm` in slices, 0 where the distance of slices is unknown."""
    if smoothing_nm and not knows_z(volume):
        print(
            f"{volume.path} does not say the distance of its slices, so that nothing is averaged along z; "
            "--config.predict.voxel_nm=z,y,x in nm sets it."
        )
        return 0.0
    return smoothing_nm / volume.voxel_nm[0] if smoothing_nm else 0.0


def reach(sigma: float) -> int:
    """Slices on either side that a Gaussian is summed over."""
    return math.ceil(3 * sigma)


def mirrored(slice_yx: ProbabilitySlice, z: int) -> ProbabilitySlice:
    """Slice z, or its probabilities, mirrored otherwise than its neighbours; twice gives what it was. None stays None.

    A mean along z of slices that the network saw so is also one over mirrored views, at no cost.
    """
    if slice_yx is None:
        return None
    y, x = _MIRRORED[z % len(_MIRRORED)]
    return slice_yx[::y, ::x]


def smoothed(
    slices: Iterator[ProbabilitySlice], given: range, wanted: Iterable[int], sigma: float
) -> Iterator[ProbabilitySlice]:
    """Gaussian mean over z of the slices at `given`, for each z of `wanted`, in rising order; `sigma` in slices.

    The weights of the slices that are not None sum to one: at the ends of the volume and beside a slice that is None
    the mean is over fewer slices. None stays None. In memory are 2 reach + 1 slices, as uint16.
    """
    radius = reach(sigma)
    coming = zip(given, slices, strict=True)
    held: deque[tuple[int, np.ndarray | None]] = deque(maxlen=2 * radius + 1)
    for z in wanted:
        while not held or held[-1][0] < min(z + radius, given[-1]):
            at, probability = next(coming)
            held.append((at, _as_held(probability)))
        near = {at: probability for at, probability in held if probability is not None and abs(at - z) <= radius}
        if z not in near:
            yield None
            continue
        weights = np.array([math.exp(-0.5 * ((at - z) / sigma) ** 2) for at in near])
        yield _weighted_sum(list(near.values()), weights / (weights.sum() * _FULL))


def _as_held(probability: ProbabilitySlice) -> np.ndarray | None:
    """0..1 -> uint16, `_FULL` means 1; None stays None."""
    if probability is None:
        return None
    return np.rint(np.multiply(probability, _FULL, dtype=np.float32)).astype(np.uint16)


def _weighted_sum(slices: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    total = np.zeros(slices[0].shape, np.float32)
    for top in range(0, len(total), _ROWS):
        rows = slice(top, top + _ROWS)
        for values, weight in zip(slices, weights, strict=True):
            total[rows] += np.multiply(values[rows], weight, dtype=np.float32)
    return total
