"""Slices go to the network at the training pixel size and come back at their own."""

import numpy as np
import pytest

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError
from dualrel_jax.inference.volume_predictor import VolumePredictor


class Identity:
    in_flight = 2

    def __init__(self, slices_at_once):
        self.slices_at_once, self.shapes = slices_at_once, []

    def __call__(self, variables, images):
        self.shapes.append(images.shape)
        return images / np.float32(255)


def model(slices_at_once=1, **changed):
    about = {"grey": (0, 255), "pixel_nm": (10.0, 10.0), "tile": 16, "overlap": 6, "side": 0}
    return VolumePredictor(Identity(slices_at_once), None, **{**about, **changed})


@pytest.mark.parametrize(
    ("at_once", "shapes"),
    [(1, [(1, 20, 30)] * 2), (2, [(2, 20, 30), (1, 20, 30)]), (3, [(3, 20, 30)]), (4, [(3, 20, 30)])],
)
def test_a_volume_is_predicted_at_the_training_pixel_size_and_returned_at_its_own(at_once, shapes):
    smooth = np.linspace(0, 255, 40)[None, :, None] * np.ones((3, 1, 60))
    smooth[1] = 9
    volume = Volume.from_array(smooth.astype(np.uint8), (30.0, 5.0, 5.0), "ramp")
    seen = model(at_once)
    first, blank, last = seen.probability_slices(volume)
    assert blank is None and sorted(seen.predictor.shapes) == sorted(shapes)  # two threads, in any order
    for section in (first, last):
        np.testing.assert_allclose(section[2:-2], smooth[0][2:-2] / 255, atol=0.02)


def test_surroundings_are_counted_in_pixels_of_the_training():
    volume = Volume.from_array(np.zeros((1, 200, 300), np.uint8), (30.0, 5.0, 2.5))
    first, *_, last = model(side=100).windows(volume, (slice(0, 200), slice(0, 300)))
    assert first.outer == (slice(0, 112), slice(0, 124)) and last.inner == (slice(100, 200), slice(200, 300))
    (window,) = model(side=100).windows(volume, (slice(50, 60), slice(100, 110)))
    assert window.outer == (slice(38, 72), slice(73, 137))  # a tile of 32 x 64 pixels, and 12 and 24 on each side


def test_nan_is_refused():
    with pytest.raises(InputError, match="mine: holds 1 pixels"):
        list(model().probability_slices(Volume.from_array(np.array([[[0, 1, np.nan, 5, 6]]]), None, "mine")))
