import numpy as np

from dualrel_jax.data.io.tissue import away_from_padding


def test_a_filter_sees_nothing_of_padding_where_tissue_is_left():
    image = np.random.default_rng(0).integers(1, 255, (60, 80), np.uint8)
    assert away_from_padding(image, 3).all()
    padded = np.pad(image, ((0, 0), (20, 0)))
    wanted = np.zeros(padded.shape, bool)
    wanted[:, 20 + 3 + 2 :] = True  # the reach, and two pixels that a rotation may have mixed with padding
    np.testing.assert_array_equal(away_from_padding(padded, 2.5), wanted)
    assert not away_from_padding(np.full((40, 40), 128, np.uint8), 3).any()
