"""A run without a training, and a volume of several boxes."""

import json

import jax
import numpy as np
import pytest
from scipy import ndimage

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.methods import create_method
from dualrel_jax.training.checkpoint import Checkpoints
from dualrel_jax.training.state import abstract_state


@pytest.fixture(scope="session")
def untrained_run(tmp_path_factory):
    """Folder of a run whose network is as it was drawn."""
    workdir = tmp_path_factory.mktemp("run")
    config = dualrel_jax.get_config("supervised:own,all")
    config.model.update({"stem": 1, "width": 4, "depth": 2, "dtype": "float32"})
    config.data.update({"image": "gone.tif", "label": "gone.tif"})
    config.train.update({"optimizer": "adamw", "devices": 1})
    config.predict.update({"threshold": 0.5, "domain": "training", "tile": 128, "overlap": 16, "window_px": 256})
    config = config_lib.resolve(config)
    config_lib.save(config, workdir / "config.json")
    (workdir / "run.json").write_text(json.dumps({"pixel_nm": None}))
    rng = np.random.default_rng(0)
    shapes = abstract_state(create_method(config), config)
    state = jax.tree.map(lambda leaf: np.asarray(rng.normal(scale=0.3, size=leaf.shape), leaf.dtype), shapes)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(1, state, {"jac_calibrated": 0.0})
    return workdir


@pytest.fixture(scope="session")
def tissue(tmp_path_factory):
    """Path of a zarr of 2 x 1 x 2 boxes, of 32 slices of 256 columns."""
    path = tmp_path_factory.mktemp("tissue") / "em.zarr"
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(40, 16, 80)), 2)
    volume = np.kron(128 + 900 * field, np.ones((1, 4, 4))).clip(0, 255).astype(np.uint8)
    with open_writer(path, volume.shape, volume.dtype, (20.0, 8.0, 8.0)) as writer:
        for z, slice_yx in enumerate(volume):
            writer.write(z, slice_yx)
    return path
