"""Prediction from levels of pyramids, with a stand-in for the network: dark is mitochondrion."""

import importlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

import dualrel_jax
from dualrel_jax.data.io import ome_zarr
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.data.io.writers import open_writer

predict_module = importlib.import_module("dualrel_jax.predict")  # dualrel_jax.predict is the function


class Dark:
    in_flight = slices_at_once = 1

    def __call__(self, variables, images):
        return 1 - images / np.float32(255)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(ome_zarr, "CHUNK", (4, 16, 16))


@pytest.fixture
def pyramid(tmp_path):
    """Levels of 10 x 5 x 5, 10 x 10 x 10 and coarser ones, of a volume with structures of many pixels."""
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(6, 60, 72)), (1, 4, 4))
    array = (128 + 900 * field).clip(1, 254).astype(np.uint8)
    with open_writer(tmp_path / "em.zarr", array.shape, np.uint8, (10.0, 5.0, 5.0), reduction="mean") as writer:
        for z, image in enumerate(array):
            writer.write(z, image)
    return tmp_path / "em.zarr"


@pytest.fixture
def predict(monkeypatch, tmp_path):
    """A function (settings) -> paths, of a run that was trained with pixels of 10 nm."""

    def run(**settings):
        config = dualrel_jax.get_config("supervised:own")
        config.predict.update({"tile": 16, "overlap": 4, "window_px": 32, "z_smoothing_nm": 0.0, "threshold": 0.5})
        config.predict.update({"intensity_range": "0,255", "domain": "training", **settings})
        method = SimpleNamespace(main_head="default", prediction_head_elsewhere="default")
        run = SimpleNamespace(config=config, method=method, variables=1.0, pixel_nm=(10.0, 10.0))
        run.predictor_of = lambda head: Dark()
        run.workdir = tmp_path / "run"
        monkeypatch.setattr(predict_module, "load_run", lambda *_: run)
        return predict_module.predict(run.workdir, config)

    return run


def test_the_level_with_the_training_pixels_is_segmented(predict, pyramid, tmp_path, capsys):
    paths = predict(input=str(pyramid), output=str(tmp_path / "mask.zarr"))
    assert "Level 1 of 0 to 3 is read: the coarsest whose" in capsys.readouterr().out
    mask, image = open_volume(paths["mask"]), open_volume(f"{pyramid}:1")
    np.testing.assert_array_equal(mask[:] > 0, image[:] < 127.5)
    assert mask.voxel_nm == image.voxel_nm == (10.0, 10.0, 10.0) and mask.origin_nm == image.origin_nm == (0, 2.5, 2.5)
    assert json.loads(paths["about"].read_text())["volume"] == f"{pyramid}:1"


def test_a_region_counts_voxels_of_level_0_whatever_is_read(predict, pyramid, tmp_path):
    paths = predict(input=str(pyramid), output=str(tmp_path / "mask.zarr"), region="1:4,11:31,20:60")
    mask, image = open_volume(paths["mask"]), open_volume(f"{pyramid}:1")
    np.testing.assert_array_equal(mask[:] > 0, image[1:4, 5:16, 10:30] < 127.5)
    assert mask.origin_nm == (10.0, 52.5, 102.5)


def test_another_level_can_be_asked_for(predict, pyramid, tmp_path):
    assert open_volume(predict(input=str(pyramid), output=str(tmp_path / "a.zarr"), level="0")["mask"]).shape[1] == 60
    named = predict(input=f"{pyramid}:2", output=str(tmp_path / "b.zarr"))
    assert open_volume(named["mask"]).shape == open_volume(f"{pyramid}:2").shape
