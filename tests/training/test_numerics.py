"""A training step is finite: in every precision, with every norm, at every depth, however XLA optimises it."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from dualrel_jax.configs.base import SIZES

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax.data.pipeline.augment import RawBatch
from dualrel_jax.methods import create_method
from dualrel_jax.train import init_state, make_train_step
from dualrel_jax.training.state import create_optimizer
from dualrel_jax.utils import sharding


class RandomCrops:
    """A feed of noise with a square object in each labelled crop."""

    def __init__(self, crop_px, with_unlabelled):
        rng = np.random.default_rng(0)
        image, unlabelled = rng.integers(0, 255, (2, 2, crop_px, crop_px)).astype(np.uint8)
        label = np.zeros_like(image)
        label[:, crop_px // 4 : crop_px // 2, crop_px // 4 : crop_px // 2] = 1
        self.raw = RawBatch(
            *map(jnp.asarray, (image, label)), jnp.asarray(unlabelled if with_unlabelled else unlabelled[:0])
        )

    def __next__(self):
        return self.raw

    def crops(self, data, key):
        return data


def small_training(method, model, **train):
    """(state, step function, feed) of a training of a narrow network on crops of 32 pixels."""
    config = dualrel_jax.get_config(f"{method}:phantom,1/32")
    config.model.update(model)
    config.train.update({"crop_px": 32, "batch_labelled": 2, "batch_unlabelled": 2, "steps": 1000, "warmup_steps": 0})
    config.train.update({"optimizer": "adamw", **train})
    if method == "dualrel":
        config.method.update({"feature_level": 1, "num_prototypes": 4, "num_references": 8, "dim": 8})
    config = config_lib.resolve(config)
    mesh, method = sharding.create_mesh(1), create_method(config)
    feed = RandomCrops(config.train.crop_px, method.strong_views > 0)
    optimizer = create_optimizer(method, config.train)
    step = make_train_step(method, optimizer, feed, config, mesh)
    return init_state(method, optimizer, config, mesh), step, feed


def assert_finite_steps(state, step, feed, count):
    """Takes `count` steps and returns the last state; no step was skipped, and the parameters moved."""
    before = jax.device_get(state.variables)
    for _ in range(count):
        state, diagnostics = step(state, next(feed))
        assert np.isfinite(list(map(float, diagnostics.values()))).all(), diagnostics
    assert int(state.skipped.total) == 0
    assert float(diagnostics["gradient_norm"]) > 0
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, jax.device_get(state.variables))
    assert max(jax.tree.leaves(moved)) > 0
    return state


DEPTHS = sorted({size["model.depth"] for size in SIZES.values()})
KINDS = [(norm, dtype, depth) for norm in ("group", "batch") for dtype in ("float32", "bfloat16") for depth in DEPTHS]


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "dtype", "depth"), KINDS)
def test_a_step_is_finite_in_every_precision_with_every_norm_at_every_depth(norm, dtype, depth):
    model = {"width": 4, "depth": depth, "norm": norm, "dtype": dtype}
    assert_finite_steps(*small_training("supervised", model), count=1)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0, 3])
def test_the_whole_step_is_finite_however_xla_optimises_it(level):
    """At level 0 the operand of the pool is computed twice, with other roundings."""
    code = """
from tests.training.test_numerics import assert_finite_steps, small_training
model = {"width": 4, "depth": 2, "dtype": "float32"}
assert_finite_steps(*small_training("dualrel", model), count=1)
"""
    environment = {**os.environ, "XLA_FLAGS": f"--xla_backend_optimization_level={level}"}
    completed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr


@pytest.mark.slow
def test_200_steps_in_bfloat16_at_the_full_rate_from_the_first_one_stay_finite():
    """The network of size small, narrower, without warm-up: the references' covariance collapses within a few steps."""
    model = {"width": 8, "depth": SIZES["small"]["model.depth"], "dtype": "bfloat16"}
    assert_finite_steps(*small_training("dualrel", model, optimizer="muon"), count=200)
