"""The U-Net: shapes, precision, and that it sees what it should."""

import os
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualrel_jax.models.unet import (
    GroupNorm,
    UNet,
    equal_pixels,
    max_pool_2x2,
    pixel_shuffle,
    pixel_unshuffle,
    upsample_2x,
)


@pytest.mark.parametrize(("norm", "dtype"), [("group", "float32"), ("batch", "bfloat16")])
def test_shapes_precision_and_features(norm, dtype):
    network = UNet(width=4, depth=3, norm=norm, dtype=jnp.dtype(dtype))
    image = jax.random.normal(jax.random.key(0), (2, 16, 24, 1))
    variables = jax.jit(network.init)(jax.random.key(1), image)
    output = jax.jit(network.apply)(variables, image)
    assert output.logits.shape == (2, 16, 24, 2)
    assert output.logits.dtype == jnp.float32
    assert [f.shape for f in output.features] == [(2, 16, 24, 4), (2, 8, 12, 8), (2, 4, 6, 16)]
    assert output.features[0].dtype == jnp.dtype(dtype)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
    assert ("batch_stats" in variables) == (norm == "batch")


@pytest.mark.parametrize("stem", [2, 4])
def test_a_stem_makes_cells_of_pixels_whose_first_predictions_are_alike(stem):
    network = UNet(width=4, depth=2, stem=stem)
    image = jax.random.normal(jax.random.key(0), (2, 16, 24, 1))
    variables = jax.jit(network.init)(jax.random.key(1), image)
    output = jax.jit(network.apply)(variables, image)
    assert output.logits.shape == (2, 16, 24, 2)
    assert [f.shape for f in output.features] == [(2, 16 // stem, 24 // stem, 4), (2, 8 // stem, 12 // stem, 8)]
    cells = pixel_unshuffle(output.logits[..., :1], stem)
    np.testing.assert_allclose(cells, np.broadcast_to(cells[..., :1], cells.shape), atol=1e-6)
    assert np.ptp(output.logits) > 0.01

    moved = pixel_shuffle(jnp.roll(pixel_unshuffle(image, stem), 1, axis=1), stem)
    np.testing.assert_array_equal(moved, jnp.roll(image, stem, axis=1))


def test_without_a_stem_the_head_starts_as_any_layer():
    kernels = (init(jax.random.key(0), (1, 1, 6, 2)) for init in (equal_pixels(1), nn.initializers.lecun_normal()))
    np.testing.assert_array_equal(*kernels)


def test_unshuffled_pixels_are_channels_row_by_row():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(pixel_unshuffle(x, 2)[0, 0], [[0, 1, 4, 5], [2, 3, 6, 7]])
    two = jnp.concatenate([x, -x], axis=-1)
    np.testing.assert_array_equal(pixel_unshuffle(two, 2)[0, 0, 0], [0, 1, 4, 5, 0, -1, -4, -5])
    np.testing.assert_array_equal(pixel_shuffle(pixel_unshuffle(two, 2), 2), two)


def test_a_width_may_be_any_number():
    shapes = jax.eval_shape(UNet(width=12, depth=2).init, jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    assert shapes["params"]["encoder"]["ConvBlock_0"]["GroupNorm_0"]["scale"].shape == (12,)


def test_an_image_does_not_change_the_prediction_of_another_under_group_norm():
    network = UNet(width=4, depth=2)
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    variables = jax.jit(network.init)(jax.random.key(1), images)
    alone = network.apply(variables, images[:1]).logits
    np.testing.assert_allclose(network.apply(variables, images).logits[:1], alone, atol=1e-5)


def test_group_norm_is_that_of_flax_in_value_and_gradient():
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (2, 6, 10, 8))
    params = {"params": {"scale": jnp.linspace(0.5, 2, 8), "bias": jnp.linspace(-1, 1, 8)}}
    weight = jax.random.normal(jax.random.key(1), x.shape)

    def value_and_gradients(norm):
        return jax.value_and_grad(lambda p, x: jnp.sum(weight * jnp.sin(norm.apply(p, x))), argnums=(0, 1))(params, x)

    ours, flax = (value_and_gradients(norm) for norm in (GroupNorm(4, jnp.float32), nn.GroupNorm(4)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), ours, flax)


@pytest.mark.parametrize("mean", [1e3, 1e5])
def test_group_norm_of_values_far_from_zero(mean):
    """E[x^2] - E[x]^2 in float32 has no digit left of a variance of 1 beside a mean of 1e5."""
    x = np.float32(mean) + np.random.default_rng(0).normal(size=(2, 64, 64, 8)).astype(np.float32)
    groups = x.astype(np.float64).reshape(2, 64 * 64, 4, 2)
    centred = groups - groups.mean(axis=(1, 3), keepdims=True)
    want = centred / np.sqrt(np.square(centred).mean(axis=(1, 3), keepdims=True) + 1e-6)
    params = {"params": {"scale": jnp.ones(8), "bias": jnp.zeros(8)}}
    got = GroupNorm(4, jnp.float32).apply(params, jnp.asarray(x))
    np.testing.assert_allclose(got, want.reshape(x.shape), atol=1e-6 * mean)


def test_pool_and_upsampling():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(max_pool_2x2(x)[0, :, :, 0], [[5, 7], [13, 15]])
    np.testing.assert_array_equal(max_pool_2x2(upsample_2x(x)), x)
    np.testing.assert_array_equal(upsample_2x(x)[0, :2, :2, 0], [[0, 0], [0, 0]])


def test_the_gradient_of_the_pool_goes_to_the_largest_value():
    x = jax.random.normal(jax.random.key(0), (2, 6, 8, 3))
    weight = jax.random.normal(jax.random.key(1), (2, 3, 4, 3))
    gradient = jax.grad(lambda x: jnp.sum(weight * max_pool_2x2(x)))(x)
    of_flax = jax.grad(lambda x: jnp.sum(weight * nn.max_pool(x, (2, 2), (2, 2))))(x)
    np.testing.assert_array_equal(gradient, of_flax)


def test_the_gradient_of_the_pool_is_shared_by_equal_values():
    """As where a ReLU leaves nothing but zeros."""
    gradient = jax.grad(lambda x: jnp.sum(max_pool_2x2(x)))(jnp.zeros((1, 4, 4, 1)))
    np.testing.assert_array_equal(gradient, jnp.full((1, 4, 4, 1), 0.25))


def test_no_gradient_is_nan_where_xla_does_not_optimise():
    """At level 0 the operand of the pool is computed twice and rounded differently."""
    code = (
        "import jax, jax.numpy as jnp; from dualrel_jax.models.unet import UNet; "
        "network, image = UNet(4, 2), jax.random.normal(jax.random.key(0), (1, 32, 32, 1)); "
        "variables = network.init(jax.random.key(1), image); "
        "loss = lambda v: jnp.square(network.apply(v, image).logits).mean(); "
        "print(sum(int(jnp.isnan(g).sum()) for g in jax.tree.leaves(jax.jit(jax.grad(loss))(variables))))"
    )
    environment = {**os.environ, "XLA_FLAGS": "--xla_backend_optimization_level=0"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # programs of another level
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "0"
