"""How weights and rates change with the step."""

import jax
import jax.numpy as jnp
import optax


def sigmoid_ramp(step: jax.Array, ramp_steps: float) -> jax.Array:
    """w(t) = exp(-5 (1 - min(t, T) / T)^2), rising from 0.0067 to 1 (Laine and Aila 2017); 1 if T = 0."""
    if ramp_steps <= 0:
        return jnp.ones(())
    return jnp.exp(-5 * jnp.square(1 - jnp.minimum(step, ramp_steps) / ramp_steps))


def learning_rate(peak: float, warmup_steps: int, steps: int) -> optax.Schedule:
    """Linear rise from 0 to `peak`, then cosine decay to 0 at `steps`; a short run warms up for a tenth of it."""
    warmup = min(warmup_steps, steps // 10)
    return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, max(steps, warmup + 1))
