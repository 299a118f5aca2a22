"""The training state: one pytree that holds everything a restart needs."""

import functools
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dualrel_jax.methods.base import Method, Variables
from dualrel_jax.training import optimizers


class SkippedSteps(flax.struct.PyTreeNode):
    """Steps that were not finite and changed nothing; scalars int32."""

    in_a_row: jax.Array  # up to and including the last step
    total: jax.Array


class TrainState(flax.struct.PyTreeNode):
    step: jax.Array  # scalar int32, steps done, those skipped included
    variables: Variables  # the students: network -> Flax collections
    teacher: Variables  # their exponential moving average, same structure
    opt_state: Any
    skipped: SkippedSteps


def create_optimizer(method: Method, train: ConfigDict) -> optax.GradientTransformation:
    """Each network under its own optimiser, the config's unless the method has another; acts on network -> params."""
    common = {name: optimizers.create(train) for name in method.networks}
    return optax.multi_transform({**common, **method.optimizers(train)}, {name: name for name in method.networks})


def create_state(
    method: Method, optimizer: optax.GradientTransformation, rng: jax.Array, image: jax.Array
) -> TrainState:
    """State at step 0 for images of the shape b y x 1; teachers start as copies of their students."""
    variables = method.init(rng, image)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        teacher=jax.tree.map(jnp.copy, variables),
        opt_state=optimizer.init(params_of(variables)),
        skipped=SkippedSteps(jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)),
    )


def abstract_state(method: Method, config: ConfigDict) -> TrainState:
    """Shapes and types of the training state, nothing computed."""
    optimizer = create_optimizer(method, config.train)
    image = jax.ShapeDtypeStruct((1, config.train.crop_px, config.train.crop_px, 1), jnp.float32)
    return jax.eval_shape(functools.partial(create_state, method, optimizer), jax.random.key(0), image)


def params_of(variables: Variables) -> dict[str, Any]:
    return {name: collections["params"] for name, collections in variables.items()}


def with_params(variables: Variables, params: dict[str, Any]) -> Variables:
    return {name: {**collections, "params": params[name]} for name, collections in variables.items()}


def skip_unless_finite(before: TrainState, after: TrainState, diagnostics: Mapping[str, jax.Array]) -> TrainState:
    """`after`, where its variables and all `diagnostics` of the step are finite; else `before`, one step further on.

    `optax.apply_if_finite` would guard the parameters alone: batch statistics and teacher come from the same step.
    The clip of the gradient norm guards nothing, for it divides inf by inf.
    """
    finite = jnp.isfinite(optax.tree.norm(after.variables))
    for value in jax.tree.leaves(diagnostics):
        finite &= jnp.all(jnp.isfinite(value))
    kept = jax.tree.map(functools.partial(jnp.where, finite), after, before)
    failed = 1 - finite.astype(jnp.int32)
    skipped = SkippedSteps(failed * (before.skipped.in_a_row + 1), before.skipped.total + failed)
    return kept.replace(step=after.step, skipped=skipped)


def update_teacher(teacher: Variables, student: Variables, decay: float, step: jax.Array) -> Variables:
    """teacher <- a teacher + (1 - a) student with a = min(decay, 1 - 1 / (step + 1)): early on, a plain mean."""
    a = jnp.minimum(decay, 1 - 1 / (step + 1.0))
    return optax.incremental_update(student, teacher, 1 - a)
