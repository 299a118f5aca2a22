"""The training state: one pytree that holds everything a restart needs."""

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dualrel_jax.methods.base import Method, Variables


class TrainState(flax.struct.PyTreeNode):
    step: jax.Array  # scalar int32, optimiser steps done
    variables: Variables  # the students: network -> Flax collections
    teacher: Variables  # their exponential moving average, same structure
    opt_state: Any


def create_optimizer(method: Method, train: ConfigDict) -> optax.GradientTransformation:
    """Each network under its own optimiser; acts on network -> params."""
    optimizers = method.optimizers(train)
    return optax.multi_transform(optimizers, {name: name for name in method.networks})


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


def update_teacher(teacher: Variables, student: Variables, decay: float, step: jax.Array) -> Variables:
    """teacher <- a teacher + (1 - a) student with a = min(decay, 1 - 1 / (step + 1)): early on, a plain mean."""
    a = jnp.minimum(decay, 1 - 1 / (step + 1.0))
    return optax.incremental_update(student, teacher, 1 - a)
