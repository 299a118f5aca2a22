"""Four simulated devices, strict numerics, and a small volume to train on."""

import os
import tempfile

# Level 0: compiling is most of what these tests do.
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
os.environ["JAX_PLATFORMS"] = "cpu"
# Tests compile the same small programs again and again; the processes they run in or start share a cache.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", tempfile.mkdtemp(prefix="dualrel-jit-"))
os.environ.setdefault("XDG_CACHE_HOME", tempfile.mkdtemp(prefix="dualrel-cache-"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"

import jax
import numpy as np
import pytest
import stores
import tifffile
from scipy import ndimage

import dualrel_jax

jax.config.update("jax_numpy_rank_promotion", "raise")


# Files with the longest tests go first. As the last ones they kept one process busy while the other was idle.
LONGEST = ("test_train.py", "test_benchmark.py", "test_faults.py", "test_pseudo_labels.py", "test_figures.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


def blobs(shape=(12, 48, 48), seed=0):
    """A z y x volume of dark blobs on a noisy ground, uint8, and their labels 0 / 255."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), (2, 4, 4))
    label = field > np.quantile(field, 0.85)
    image = 150 - 70 * label + rng.normal(scale=12, size=shape)
    return image.clip(0, 255).astype(np.uint8), label.astype(np.uint8) * 255


@pytest.fixture(scope="module")
def endpoint():
    """The address of an S3 server with an empty bucket; see stores.use."""
    with stores.s3_server() as address:
        yield address


@pytest.fixture(scope="session")
def volume_files(tmp_path_factory):
    """Paths of a training volume, its labels, a test volume and its labels."""
    folder = tmp_path_factory.mktemp("volumes")
    paths = {}
    for name, seed in (("train", 0), ("test", 1)):
        for kind, array in zip(("image", "label"), blobs(seed=seed), strict=True):
            paths[f"{name}_{kind}"] = folder / f"{name}_{kind}.tif"
            tifffile.imwrite(paths[f"{name}_{kind}"], array)
    return paths


@pytest.fixture
def small_config(volume_files):
    """A function method -> config of a training that takes seconds, on `volume_files`."""

    def config(method="dualrel", labelled="1/3"):
        config = dualrel_jax.get_config(f"{method}:own,{labelled}")
        config.data.pixel_nm = 0.0
        config.data.image = str(volume_files["train_image"])
        config.data.label = str(volume_files["train_label"])
        config.data.test_image = str(volume_files["test_image"])
        config.data.test_label = str(volume_files["test_label"])
        config.data.train_region, config.data.validation_region = "0:9", "10:12"
        config.model.update({"stem": 1, "width": 4, "depth": 2, "dtype": "float32"})
        if method == "dualrel":
            config.method.feature_level = 1
        config.train.update({"steps": 6, "crop_px": 32, "batch_labelled": 4, "batch_unlabelled": 4, "devices": 1})
        config.train.update({"log_every_steps": 1, "eval_every_steps": 3, "eval_slices": 2})
        config.train.update({"checkpoint_every_steps": 2, "optimizer": "adamw"})  # Muon compiles five times longer
        config.predict.update({"tile": 48, "overlap": 16})
        return config

    return config


@pytest.fixture
def trained(request, small_config, tmp_path):
    """A run folder with the checkpoint of an untrained model, and its config; of DualRel without a parameter."""
    from dualrel_jax import config as config_lib
    from dualrel_jax.data.datasets.partition import make_partition
    from dualrel_jax.data.datasets.registry import load_dataset
    from dualrel_jax.methods import create_method
    from dualrel_jax.train import init_state
    from dualrel_jax.training.checkpoint import Checkpoints
    from dualrel_jax.training.state import create_optimizer
    from dualrel_jax.training.workdir import claim_workdir, describe_run
    from dualrel_jax.utils import sharding

    config = config_lib.resolve(small_config(getattr(request, "param", "dualrel")))
    mesh, method, dataset = sharding.create_mesh(1), create_method(config), load_dataset(config.data)
    claim_workdir(config, tmp_path)
    describe_run(tmp_path, dataset, make_partition(dataset.train, config.data), mesh)
    state = init_state(method, create_optimizer(method, config.train), config, mesh)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(6, state)
    return tmp_path, config
