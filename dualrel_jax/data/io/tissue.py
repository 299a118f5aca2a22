"""Where a filter sees only tissue of a slice: the edge of padding is stronger than any membrane."""

import numpy as np
from scipy import ndimage

from dualrel_jax.data.io.padding import padding

_BLURRED = 2  # pixels beside padding that a rotation or a resampling has mixed with it


def away_from_padding(image: np.ndarray, reach: float) -> np.ndarray:
    """Slice y x -> bool y x: pixels farther from padding than a filter of `reach` pixels sees."""
    padded = padding(image)
    if padded.any():
        padded = ndimage.maximum_filter(padded, 2 * (int(np.ceil(reach)) + _BLURRED) + 1)
    return ~padded
