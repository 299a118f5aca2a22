"""Numbers that tell a volume from another one of the same name: of a sample of its voxels, of a whole slice."""

import itertools
import math
import zlib

import numpy as np

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.utils.ranges import evenly_spaced

_SLICES = 8
_WHOLE_PIXELS = 1 << 24  # of larger slices squares are read
_SQUARES, _SIDE = 4, 512  # along y and along x; pixels


def fingerprint(volume: Volume) -> int:
    """CRC of 8 slices spread over z; of slices above 16 million pixels that of 4 x 4 squares of 512 pixels each.

    Raises:
        InputError: the volume is damaged.
    """
    shape, crc = volume.shape[1:], 0
    side = max(shape) if math.prod(shape) <= _WHOLE_PIXELS else _SIDE
    corners = [sorted({int(at) for at in np.linspace(0, max(length - side, 0), _SQUARES)}) for length in shape]
    for z, y, x in itertools.product(evenly_spaced(range(len(volume)), _SLICES), *corners):
        crc = zlib.crc32(volume[z, y : y + side, x : x + side].tobytes(), crc)
    return crc


def checksum(array: np.ndarray) -> int:
    """CRC-32 of all values of an array."""
    return zlib.crc32(np.ascontiguousarray(array))
