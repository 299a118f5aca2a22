"""Slices go to the network at the training pixel size and come back at their own."""

import numpy as np
import pytest

from dualrel_jax.data.volumes import Volume
from dualrel_jax.errors import InputError
from dualrel_jax.sections import Model


class Identity:
    in_flight = 2

    def __init__(self):
        self.shapes = []

    def __call__(self, variables, image):
        self.shapes.append(image.shape)
        return image / np.float32(255)


def model(**changed):
    about = {"grey": (0, 255), "pixel_nm": (10.0, 10.0), "tile": 16, "overlap": 6, "side": 0}
    return Model(Identity(), None, **{**about, **changed})


def test_a_volume_is_predicted_at_the_training_pixel_size_and_returned_at_its_own():
    smooth = np.linspace(0, 255, 40)[None, :, None] * np.ones((3, 1, 60))
    smooth[1] = 9
    volume = Volume.from_array(smooth.astype(np.uint8), (30.0, 5.0, 5.0), "ramp")
    seen = model()
    first, blank, last = seen.sections(volume)
    assert blank is None and seen.predictor.shapes == [(20, 30)] * 2
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
        list(model().sections(Volume.from_array(np.array([[[0, 1, np.nan, 5, 6]]]), None, "mine")))
