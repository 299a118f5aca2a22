"""What the tests of a method share: pictures to learn from, a few steps on them, and the same on several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from dualrel_jax.data.pipeline.augment import Batch
from dualrel_jax.training.state import params_of, with_params
from dualrel_jax.utils import sharding


def example():
    """Pictures that show their label, and others without one."""
    coarse = jax.random.bernoulli(jax.random.key(1), 0.3, (8, 4, 4)).astype(jnp.int32)
    label = jnp.kron(coarse, jnp.ones((1, 4, 4), jnp.int32))
    image = 0.3 * jax.random.normal(jax.random.key(2), (8, 16, 16, 1)) - 2.0 * label[..., None]
    return Batch(image[:4], label[:4], image[4:], image[None, 4:])


def loss_and_gradient(method):
    """Compiled (params, variables, batch, step) -> ((loss, (diagnostics, variables)), gradient).

    For a method that does not read its teacher: None stands for it.
    """

    def loss(params, variables, data, step):
        return method.loss(with_params(variables, params), None, data, jax.random.key(0), step)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def diagnostics_of_steps(loss, optimizer, state, steps):
    """Diagnostics of each step of a short training on `example`."""
    update = jax.jit(optimizer.update)
    params, variables, opt_state, seen = params_of(state.variables), state.variables, state.opt_state, []
    for step in range(steps):
        (_, (found, variables)), gradient = loss(params, variables, example(), jnp.int32(step))
        changes, opt_state = update(gradient, opt_state, params)
        params = optax.apply_updates(params, changes)
        seen.append(jax.device_get(found))
    return seen


def check_four_devices_as_one(loss, state, step):
    results = []
    for devices in (1, 4):
        mesh = sharding.create_mesh(devices)
        rows, views = sharding.split(mesh), NamedSharding(mesh, PartitionSpec(None, "data"))
        data = jax.device_put(example(), Batch(rows, rows, rows, views))
        variables = jax.device_put(state.variables, sharding.replicated(mesh))
        results.append(jax.device_get(loss(params_of(variables), variables, data, jnp.int32(step))))
    ((one, _), of_one), ((four, _), of_four) = results
    np.testing.assert_allclose(one, four, rtol=1e-5)
    # A ReLU at zero may go either way by rounding: one pixel's gradient.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=5e-4), of_one, of_four)
