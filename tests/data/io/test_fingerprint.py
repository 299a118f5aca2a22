"""Whatever part of a volume is blank, a change of the rest gives another number."""

import numpy as np
import pytest

from dualrel_jax.data.io.fingerprint import fingerprint
from dualrel_jax.data.io.volume import Volume


def of(array):
    return fingerprint(Volume.from_array(array))


@pytest.mark.parametrize("shape", [(3, 40, 50), (20, 300, 3000), (2, 4500, 4500), (1, 100, 200_000)])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_change_in_the_last_part_of_any_axis_is_seen(shape, axis):
    array = np.zeros(shape, np.uint8)
    last = [slice(None)] * 3
    last[axis] = slice(2 * shape[axis] // 3, None)
    array[tuple(last)] = 1
    assert of(array) != of(2 * array) and of(array) == of(array.copy())


def test_of_large_slices_little_is_read(monkeypatch):
    regions, region = [], Volume._region
    monkeypatch.setattr(Volume, "_region", lambda self, z, y, x: regions.append((y, x)) or region(self, z, y, x))
    of(np.broadcast_to(np.uint8(0), (100, 20_000, 20_000)))
    assert len(regions) == 8 * 16
    assert all(part.stop - part.start == 512 for pair in regions for part in pair)
