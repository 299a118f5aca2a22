"""What is measured: a config of some size, a batch, our step on that batch, and its arithmetic and traffic by hand."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax.data.pipeline.augment import Batch
from dualrel_jax.methods.base import Method
from dualrel_jax.train import init_state, make_update
from dualrel_jax.training.state import TrainState, create_optimizer
from dualrel_jax.utils import sharding


def create_config(size: str = "tiny", patch: int = 0, batch: int = 0, optimizer: str = "") -> ConfigDict:
    """DualRel at a preset, on one device; 0 or empty: the preset's own. Size `test` is smaller than any preset."""
    config = dualrel_jax.get_config("dualrel:phantom")
    if size == "test":
        config.model.update({"stem": 2, "width": 4, "depth": 2, "dtype": "float32"})
        config.train.update({"crop_px": 32, "batch_labelled": 2, "batch_unlabelled": 2, "optimizer": "adamw"})
    else:
        config.size = size
    if patch:
        config.train.crop_px = patch
    if batch:
        config.train.update({"batch_labelled": batch, "batch_unlabelled": batch})
    if optimizer:
        config.train.optimizer = optimizer
    config.train.devices = 1
    return config_lib.resolve(config)


def random_batch(config: ConfigDict, seed: int = 0) -> Batch:
    """Of normal numbers, with two strong views: what a crop shows does not matter to speed."""
    rng, side = np.random.default_rng(seed), config.train.crop_px
    b, u = config.train.batch_labelled, config.train.batch_unlabelled
    draw = lambda *shape: jnp.asarray(rng.normal(size=(*shape, side, side, 1)), jnp.float32)  # noqa: E731
    label = jnp.asarray(rng.integers(0, 2, (b, side, side)), jnp.int32)
    return Batch(draw(b), label, draw(u), draw(2, u))


def initial_state(method: Method, config: ConfigDict) -> TrainState:
    return init_state(method, create_optimizer(method, config.train), config, sharding.create_mesh(1))


def make_step(method: Method, config: ConfigDict) -> Callable:
    """(state, batch, key) -> (state, diagnostics): `dualrel_jax.train`'s step without crops and augmentation."""
    return make_update(method, create_optimizer(method, config.train), config)


def convolutions(config: ConfigDict) -> list[tuple[int, int, int, int]]:
    """(side of the kernel, channels in, channels out, places) of each convolution of the U-Net, for one image."""
    width, depth, stem = config.model.width, config.model.depth, config.model.stem
    pixels = [(config.train.crop_px // stem) ** 2 // 4**level for level in range(depth)]
    layers, before = [], stem**2
    for level in range(depth):
        w = width * 2**level
        layers += [(3, before, w, pixels[level]), (3, w, w, pixels[level])]
        before = w
    for level in reversed(range(depth - 1)):
        w = width * 2**level
        layers += [(1, 2 * w, w, pixels[level + 1]), (3, 2 * w, w, pixels[level]), (3, w, w, pixels[level])]
    return [*layers, (1, width, 2 * stem**2, pixels[0])]


def forward_flops(config: ConfigDict) -> float:
    """Multiplications and additions of the U-Net's convolutions for one image; all else is less than a hundredth."""
    return float(sum(2 * side**2 * a * b * pixels for side, a, b, pixels in convolutions(config)))


def step_flops(config: ConfigDict) -> float:
    """Of a training step: forward once and backward twice for the student's images, forward for the teacher's."""
    b, u = config.train.batch_labelled, config.train.batch_unlabelled
    return (3 * (b + 2 * u) + u) * forward_flops(config)


def step_bytes(config: ConfigDict) -> float:
    """Least traffic of a step, bytes, where a normalisation fuses with its ReLU but not with its convolutions.

    Forward, a convolution's result is written, read and written normalised, and read by the next layer: 4 times.
    Backward, it and its gradient are read for the sums, read again and written by the normalisation, and read by the
    two gradients of the convolution, with its input, and written: 9 times.
    """
    b, u = config.train.batch_labelled, config.train.batch_unlabelled
    itemsize = jnp.dtype(config.model.dtype).itemsize
    values = sum(outputs * pixels for _, _, outputs, pixels in convolutions(config))
    return float(((4 + 9) * (b + 2 * u) + 4 * u) * values * itemsize)
