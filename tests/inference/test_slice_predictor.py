"""Tiled prediction around a network that returns its input: any difference is the fault of the tiling."""

import jax
import numpy as np
import pytest

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax.errors import InputError
from dualrel_jax.inference.slice_predictor import Predictor
from dualrel_jax.methods.supervised import Supervised
from dualrel_jax.utils import sharding


class Identity(Supervised):
    def predict(self, variables, image):
        return {"default": image[..., 0] * 0.25 + 0.5 + variables}


def predictor(devices=1, **settings_of_predict):
    config = dualrel_jax.get_config("supervised:phantom")
    config.model.update({"stem": 1, "depth": 3})
    config.predict.update({"tile": 16, "overlap": 6, "batch": 3, **settings_of_predict})
    config = config_lib.resolve(config)
    return Predictor(Identity(config), config, sharding.create_mesh(devices))


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize("shape", [(16, 16), (37, 22), (9, 50)])
def test_any_slice_comes_back_as_it_was(shape, flips):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    got = predictor(test_time_augmentation=flips)(0.0, image)
    assert got.shape == shape
    np.testing.assert_allclose(got, image / 255, atol=1e-5)


def test_many_slices_keep_all_devices_at_work(monkeypatch):
    rng = np.random.default_rng(0)
    slices = [rng.integers(0, 256, shape, dtype=np.uint8) for shape in [(16, 16)] * 6 + [(12, 16)]]
    predict, calls, whole = predictor(4), [], Predictor.__call__
    monkeypatch.setattr(Predictor, "__call__", lambda *args: calls.append(args[2].shape) or whole(*args))
    for found, image in zip(predict.each(0.0, iter(slices)), slices, strict=True):
        np.testing.assert_allclose(found, image / 255, atol=1e-5)
    assert calls == [(4, 16, 16), (2, 16, 16), (1, 12, 16)]


def test_four_devices_predict_what_one_does():
    image = np.random.default_rng(0).integers(0, 256, (40, 41), dtype=np.uint8)
    np.testing.assert_allclose(predictor(4)(0.0, image), predictor(1)(0.0, image), atol=1e-6)


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("flips", [False, True])
def test_several_slices_in_one_call_are_each_as_alone(devices, flips):
    images = np.random.default_rng(0).integers(0, 256, (5, 20, 37), dtype=np.uint8)
    predict = predictor(devices, test_time_augmentation=flips)
    np.testing.assert_allclose(predict(0.0, images), [predict(0.0, image) for image in images], atol=1e-6)


def test_one_size_of_tile_compiles_once_for_slices_of_equal_size():
    predict = predictor()
    for seed in range(3):
        predict(0.0, np.random.default_rng(seed).integers(0, 256, (30, 45), dtype=np.uint8))
    assert predict._forward._cache_size() == 1


def test_unknown_output_is_explained():
    with pytest.raises(InputError, match="magic.*default"):
        predictor(prediction_head="magic")(0.0, np.zeros((16, 16), np.uint8))


def test_tiles_are_shared_out_without_nearly_empty_calls(monkeypatch):
    predict = predictor()
    sizes = []
    forward = predict._forward
    monkeypatch.setattr(
        predict, "_forward", lambda variables, tiles: (sizes.append(len(tiles)), forward(variables, tiles))[1]
    )
    predict(0.0, np.zeros((36, 26), np.uint8))  # 3 x 2 tiles at a batch of 3
    assert sizes == [3, 3]
    assert jax.device_count() == 4


@pytest.mark.parametrize("grey", [0, 55, 255])
def test_padding_gets_nothing_and_tissue_is_seen_as_if_it_were_mirrored(grey):
    """The network normalises by the whole tile, so padding beside tissue changed the mask of the tissue."""

    class Contrast(Supervised):
        def predict(self, variables, image):
            return {"default": jax.nn.sigmoid(image[..., 0] - image.mean(axis=(1, 2, 3), keepdims=True)[..., 0])}

    config = dualrel_jax.get_config("supervised:phantom")
    config.model.update({"stem": 1, "depth": 3})
    config = config_lib.resolve(config)
    predict = Predictor(Contrast(config), config, sharding.create_mesh(1))
    tissue = np.random.default_rng(0).integers(60, 200, (80, 104), dtype=np.uint8)
    padded = np.pad(tissue, 24, constant_values=grey)
    mirrored = np.pad(tissue[2:-2, 2:-2], 26, mode="symmetric")  # without the pixels that resampling may have mixed
    inside = slice(26, -26), slice(26, -26)
    found = predict({}, padded)
    np.testing.assert_allclose(found[inside], predict({}, mirrored)[inside], atol=1e-6)
    assert found.astype(bool).sum() == found[inside].size
