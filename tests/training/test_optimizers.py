import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax.errors import InputError
from dualrel_jax.training import optimizers


def train(**fields):
    config = dualrel_jax.get_config("supervised:phantom,all").train
    config.update({"steps": 100, "warmup_steps": 0, "weight_decay": 0.0, "clip_norm": 1e9, **fields})
    return config


def first_update(config, params, gradient):
    optimizer = optimizers.create(config)
    return jax.jit(lambda p, g: optimizer.update(g, optimizer.init(p), p)[0])(params, gradient)


def random_params(seed=0):
    keys = jax.random.split(jax.random.key(seed), 3)
    return {
        "conv": {"kernel": jax.random.normal(keys[0], (3, 3, 8, 16)), "bias": jnp.ones(16)},
        "norm": {"scale": jax.random.normal(keys[1], (16,))},
        "bank": jax.random.normal(keys[2], (4, 8)),
    }


def test_muon_moves_a_kernel_equally_in_every_direction_whatever_the_scale_of_its_gradient():
    spread = lambda kernel: np.divide(*np.linalg.svd(kernel.reshape(-1, 16), compute_uv=False)[[0, -1]])  # noqa: E731
    gradient = random_params(1)
    gradient["conv"]["kernel"] *= jnp.logspace(-1, 1, 16).reshape(1, 1, 1, 16)
    update = first_update(train(), random_params(), gradient)
    assert spread(gradient["conv"]["kernel"]) > 50
    assert spread(update["conv"]["kernel"]) < 2


def test_all_parameters_move_by_about_a_fifth_of_the_rate():
    update = first_update(train(learning_rate=0.05), random_params(), random_params(1))
    for leaf in jax.tree.leaves(update):
        np.testing.assert_allclose(np.sqrt(np.mean(np.square(leaf))), 0.2 * 0.05, rtol=0.5)


def test_stacked_kernels_move_as_each_would_alone():
    """CCT's decoders: a large gradient of one must not hold the others back."""
    stacked = jax.random.normal(jax.random.key(1), (3, 8, 16)) * jnp.asarray([1.0, 30.0, 1.0])[:, None, None]
    update = lambda gradient: first_update(train(), *({"kernel": x} for x in (jnp.ones_like(gradient), gradient)))  # noqa: E731
    together, alone = update(stacked)["kernel"], jnp.stack([update(gradient)["kernel"] for gradient in stacked])
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-6)


def test_only_kernels_are_taken_for_matrices():
    axes = optimizers.kernels(random_params())
    assert axes["conv"]["kernel"] == optax.contrib.MuonDimensionNumbers((0, 1, 2), 3)
    assert axes["conv"]["bias"] is axes["norm"]["scale"] is axes["bank"] is None


def test_an_unknown_optimizer_is_named_with_those_there_are():
    config = dualrel_jax.get_config("supervised:phantom,all")
    config.train.optimizer = "sgd"
    with pytest.raises(InputError, match="config.train.optimizer is 'sgd'; expected muon or adamw"):
        config_lib.resolve(config)
