"""The rise of the weights of unlabelled terms over the steps, the same for all methods."""

import jax
import jax.numpy as jnp


def sigmoid_ramp(step: jax.Array, ramp_steps: float) -> jax.Array:
    """w(t) = exp(-5 (1 - min(t, T) / T)^2), rising from 0.0067 to 1 (Laine and Aila 2017); 1 if T = 0."""
    if ramp_steps <= 0:
        return jnp.ones(())
    return jnp.exp(-5 * jnp.square(1 - jnp.minimum(step, ramp_steps) / ramp_steps))
