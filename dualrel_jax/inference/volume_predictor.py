"""A trained model applied to the slices of a volume, one after the other."""

import itertools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from dualrel_jax.data.datasets.registry import training_shape
from dualrel_jax.data.io.resample import resample_image, resample_probability
from dualrel_jax.data.io.volume import Volume, to_uint8
from dualrel_jax.inference.slice_predictor import Predictor
from dualrel_jax.inference.windows import Window, windows
from dualrel_jax.methods.base import Variables

ProbabilitySlice = np.ndarray | None  # probability y x float32; None: nothing to see there, 0 everywhere


def to_bytes(probability: ProbabilitySlice, shape: tuple[int, int]) -> np.ndarray:
    """0..1 -> uint8 of that shape, 255 means 1."""
    if probability is None:
        return np.zeros(shape, np.uint8)
    return np.rint(np.multiply(probability, 255, dtype=np.float32)).astype(np.uint8)


@dataclass(frozen=True)
class VolumePredictor:
    """A trained model, and how it sees volumes.

    Attributes:
        grey: the intensity range that becomes 0..255.
        pixel_nm: training pixel size (y, x), to which slices are resampled where theirs is known too.
        tile: side of the predictor's tiles, and `overlap` of neighbours, both in training pixels.
        side: largest side of a slice that is predicted at once, pixels of the volume; 0: any.
    """

    predictor: Predictor
    variables: Variables
    grey: tuple[float, float]
    pixel_nm: tuple[float, float] | None
    tile: int
    overlap: int
    side: int

    def probability_slices(self, volume: Volume) -> Iterator[ProbabilitySlice]:
        """Of every slice, in order, at the volume's own pixel size; None where a slice has a single grey.

        While slices are computed, the next ones are read and those before are the caller's to write: in memory are
        (`predictor.in_flight` + 1) x `predictor.slices_at_once` of them.
        """
        shape = training_shape(volume, self.pixel_nm)

        def compute(natives: list[np.ndarray]) -> list[ProbabilitySlice]:
            blank = [native.min() == native.max() for native in natives]
            if all(blank):
                return [None] * len(natives)
            images = np.stack([resample_image(to_uint8(native, self.grey, volume.path), shape) for native in natives])
            probabilities = self.predictor(self.variables, images)
            return [
                None if empty else resample_probability(probability, volume.shape[1:])
                for empty, probability in zip(blank, probabilities, strict=True)
            ]

        computed, slices = deque(), iter(volume)
        with ThreadPoolExecutor(self.predictor.in_flight) as pool:
            while natives := list(itertools.islice(slices, self.predictor.slices_at_once)):
                computed.append(pool.submit(compute, natives))
                if len(computed) > self.predictor.in_flight:
                    yield from computed.popleft().result()
            for probabilities in computed:
                yield from probabilities.result()

    def windows(self, volume: Volume, region_yx: tuple[slice, slice]) -> Iterator[Window]:
        """The windows of a region, with the surroundings that tiles need."""
        seen = training_shape(volume, self.pixel_nm)
        tile, overlap = (
            tuple(-(-size * native // small) for native, small in zip(volume.shape[1:], seen, strict=True))
            for size in (self.tile, self.overlap)
        )
        return windows(region_yx, volume.shape[1:], self.side, overlap, tile)
