"""The flaw detector: the authors' layers, any size, and its norm of two halves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualrel_jax.models.gct_detector import FlawDetector, IBNorm, num_strides


def inputs(size, b=2):
    keys = jax.random.split(jax.random.key(0), 2)
    probability = jax.nn.softmax(jax.random.normal(keys[1], (b, size, size, 2)))
    return jax.random.normal(keys[0], (b, size, size, 1)), probability


def test_five_strides_and_width_64_are_the_authors_layers():
    shapes = jax.eval_shape(FlawDetector(64, 5).init, jax.random.key(0), *inputs(64))["params"]
    kernels = [shapes[f"Conv_{i}"]["kernel"].shape for i in range(8)]
    channels = [3, 64, 128, 128, 256, 256, 512, 512, 1]
    assert kernels == [(4, 4, *pair) for pair in zip(channels[:-1], channels[1:], strict=True)]
    assert shapes["IBNorm_0"]["BatchNorm_0"]["scale"].shape == (32,)


@pytest.mark.parametrize(("size", "strides"), [(16, 2), (36, 3), (16, 5)])
def test_flaws_have_the_size_of_the_image_whatever_it_is(size, strides):
    flaws, _ = jax.jit(FlawDetector(4, strides).init_with_output)(jax.random.key(0), *inputs(size))
    assert flaws.shape == (2, size, size) and flaws.dtype == jnp.float32
    assert np.isfinite(flaws).all()


def test_a_flaw_is_seen_where_it_is():
    """A change of the prediction in one corner changes the flaws there, not in the opposite one."""
    image, probability = inputs(64, b=1)
    detector = FlawDetector(4, 3)
    before, variables = jax.jit(detector.init_with_output)(jax.random.key(0), image, probability)
    changed = probability.at[:, :16, :16].set(jnp.array([0.0, 1.0]))
    difference = np.abs(jax.jit(detector.apply)(variables, image, changed) - before)[0]
    # The instance norm spreads a little of it everywhere.
    assert difference[:16, :16].mean() > 5 * difference[32:, 32:].mean()


def test_norm_is_batch_norm_on_one_half_and_instance_norm_on_the_other():
    x = np.asarray(3 + 2 * jax.random.normal(jax.random.key(0), (4, 5, 7, 6)) * jnp.arange(1.0, 7).reshape(1, 1, 1, 6))
    norm = IBNorm()
    variables = norm.init(jax.random.key(0), x, train=True)
    y, updates = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    batch, instance = x[..., :3], x[..., 3:]
    expected = (batch - batch.mean((0, 1, 2))) / np.sqrt(batch.var((0, 1, 2)) + 1e-5)
    np.testing.assert_allclose(y[..., :3], expected, rtol=1e-3, atol=1e-4)
    centred = instance - instance.mean((1, 2), keepdims=True)
    expected = centred / np.sqrt(instance.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(y[..., 3:], expected, rtol=1e-3, atol=1e-4)
    running = updates["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(running, 0.1 * batch.mean((0, 1, 2)), rtol=1e-4)


@pytest.mark.parametrize(
    ("patch", "strides"), [(512, 5), (321, 5), (256, 5), (255, 4), (128, 4), (96, 3), (64, 3), (32, 2), (4, 2)]
)
def test_strides_leave_eight_places_a_side(patch, strides):
    assert num_strides(patch, 8) == strides
