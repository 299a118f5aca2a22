"""Probabilities of a level at the voxels of level 0: a ramp stays the ramp, wherever the voxels of the level lie."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from dualrel_jax.data.io.pyramid import Level
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.inference import full_size
from dualrel_jax.inference.region_predictor import RegionPredictor
from dualrel_jax.inference.volume_predictor import VolumePredictor

SLOPES = np.array([0.02, 0.005, 0.003])
ASKED = ConfigDict({"full_size": True})


@dataclass(frozen=True)
class Copied(VolumePredictor):
    """The intensities are the probabilities; slices of 0 are those where there is nothing to see."""

    def probability_slices(self, volume):
        return (None if not image.any() else image for image in volume)


def ramp(axes):
    """A value that rises linearly along z, y and x, at voxels whose coordinates along each axis are given."""
    return sum(np.ix_(*(slope * at for slope, at in zip(SLOPES, axes, strict=True)))).astype(np.float32) + 0.1


def level_of(factors, shift, shape, full_shape):
    """A volume that holds the ramp at its own voxels, those of level 0 being 0, 1, 2, ..."""
    level = Level(1, 1, shape, full_shape, factors, shift, None, (0.0, 0.0, 0.0))
    axes = [at + factor * np.arange(n) for at, factor, n in zip(shift, factors, shape, strict=True)]
    return volume_of(ramp(axes), level), axes


def volume_of(array, level):
    return Volume("array", array.shape, array.dtype, None, "array", lambda z, y, x: array[z, y, x], level=level)


def region_predictor(volume, region, side=0):
    model = Copied(None, None, (0, 1), None, tile=1, overlap=1, side=side)
    own = full_size.predicted_region(volume, region, ASKED)
    return full_size.for_outputs(RegionPredictor(model, volume, own, 0.0, None), region, ASKED)


def assemble(task):
    """The probabilities of a task's region, from its windows."""
    whole = np.full([part.stop - part.start for part in task.region], np.nan, np.float32)
    z, *yx = task.region
    for window in task.windows:
        rows, columns = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(window.inner, yx, strict=True))
        whole[:, rows, columns] = list(task.probability_slices(window, range(z.start, z.stop)))
    return whole


@st.composite
def cases(draw):
    """Factors and shifts of a level, and a part of level 0."""
    factors, shift, shape, full_shape, region = [], [], [], [], []
    for _ in range(3):
        factor = draw(st.sampled_from([1.0, 2.0, 3.0, 4.0, 2.5, 1.7]))
        length = draw(st.integers(3, 24))
        start = draw(st.integers(0, length - 1))
        factors.append(factor)
        shift.append(draw(st.sampled_from([0.0, (factor - 1) / 2, -0.25])))
        shape.append(max(int(np.ceil(length / factor)), 1))
        full_shape.append(length)
        region.append(slice(start, draw(st.integers(start + 1, length))))
    return (
        tuple(factors),
        tuple(shift),
        tuple(shape),
        tuple(full_shape),
        tuple(region),
        draw(st.sampled_from([0, 3, 8])),
    )


@given(cases())
@settings(max_examples=150, deadline=None)
def test_a_ramp_stays_the_ramp_where_the_level_has_voxels_on_both_sides(case):
    factors, shift, shape, full_shape, region, side = case
    volume, axes = level_of(factors, shift, shape, full_shape)
    task = region_predictor(volume, region, side)
    own = task.predictor.region
    assert all(0 <= part.start < part.stop <= length for part, length in zip(own, shape, strict=True))
    voxels = [np.arange(part.start, part.stop) for part in region]
    inside = [at.clip(axis[0], axis[-1]) for at, axis in zip(voxels, axes, strict=True)]
    np.testing.assert_allclose(assemble(task), ramp(inside), atol=1e-5)


def test_nothing_to_see_stays_nothing_to_see():
    array = np.stack([np.full((4, 4), value, np.float32) for value in (0, 0, 1)])
    level = Level(1, 1, array.shape, (6, 4, 4), (2.0, 1.0, 1.0), (0.5, 0.0, 0.0), None, (0.0, 0.0, 0.0))
    task = region_predictor(volume_of(array, level), (slice(0, 6), slice(0, 4), slice(0, 4)))
    slices = task.probability_slices(task.windows[0], range(6))
    values = [None if probability is None else float(probability.mean()) for probability in slices]
    assert values == [None, None, None, pytest.approx(0.25), pytest.approx(0.75), 1.0]


def test_level_0_and_other_files_are_taken_as_they_are():
    volume, _ = level_of((2.0, 2.0, 2.0), (0.5, 0.5, 0.5), (4, 4, 4), (8, 8, 8))
    region = (slice(0, 8),) * 3
    assert full_size.is_enlarged(volume, ASKED)
    for other in (replace(volume, level=None), replace(volume, level=replace(volume.level, index=0))):
        assert full_size.predicted_region(other, region, ASKED) == region
        assert full_size.output_volume(other, ASKED) is other
    assert not full_size.is_enlarged(volume, ConfigDict({"full_size": False}))
