import types

import numpy as np
import pytest
from pixels import GREY, read, where

from dualrel_jax import config as config_lib
from dualrel_jax.config.rules import side_multiple
from dualrel_jax.evaluate import write_activations
from dualrel_jax.visualization.canvas import BACKGROUND, FOREGROUND
from dualrel_jax.visualization.prototype_maps import activation_maps

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def picture(tmp_path):
    return tmp_path / "pictures" / "picture.png"


def test_prototypes_are_grouped_and_sorted(picture):
    """Each map has a bright band at its own height; the picture must show the bands in the order of reliability."""
    maps = np.zeros((5, 20, 20), np.float32)
    for k in range(5):
        maps[k, 4 * k : 4 * k + 2] = 1
    is_foreground, reliability = np.array([0, 1, 1, 0, 1], bool), np.array([0.5, 0.1, 2.0, 1.5, 0.9])
    activation_maps(np.full((40, 40), GREY, np.uint8), maps, is_foreground, reliability, picture)
    pixels = read(picture)
    order, tops = [], []
    for color in (FOREGROUND, BACKGROUND):
        frame = where(pixels, color, 4)
        rows = np.flatnonzero(frame.mean(1) > 0.2)
        top, bottom = rows.min(), rows.max()
        tops.append(top)
        columns = np.flatnonzero(frame[top:bottom].mean(0) > 0.9)
        edges = columns[np.r_[True, np.diff(columns) > 1]]
        for left, right in zip(edges[::2], edges[1::2], strict=True):
            inside = pixels[top + 6 : bottom - 5, left + 6 : right - 2].astype(int)
            heat = np.abs(inside - GREY).sum(-1).mean(1)
            order.append(round((heat @ np.arange(len(heat)) / heat.sum() / len(heat) * 20 - 0.5) / 4))
    assert order == [2, 4, 1, 3, 0] and tops[0] < tops[1]


@pytest.mark.parametrize("is_foreground", [[True], [False], [True] * 3, [True, False] * 9])
def test_prototype_pictures_of_any_number(picture, is_foreground):
    maps = np.random.default_rng(0).random((len(is_foreground), 12, 16), np.float32)
    maps[0] = 0.5  # an even map has no heat, and no division by zero
    activation_maps(np.full((24, 32), GREY, np.uint8), maps, is_foreground, None, picture)
    pixels = read(picture)
    assert where(pixels, FOREGROUND, 4).any() == any(is_foreground)
    assert where(pixels, BACKGROUND, 4).any() == (not all(is_foreground))


def test_a_slice_that_is_smaller_than_the_network_reads_is_drawn(tmp_path):
    config = config_lib.resolve(config_lib.get_config("dualrel"))
    least = side_multiple(config.model)

    def activations(variables, image):
        assert image.shape[1:3] == (least, 2 * least)
        return {"maps": np.zeros((1, 4, 8, 16)), "reliability": np.ones((1, 4))}

    part = types.SimpleNamespace(labelled_zs=(0,), image_at=lambda z: np.full((least - 1, 2 * least + 1), 90, np.uint8))
    write_activations(
        types.SimpleNamespace(activations=activations, config=config, variables={}, workdir=tmp_path), part
    )
    assert (tmp_path / "pictures" / "prototypes.png").exists()
