"""Joins several batches, so that a network runs once on all of them, and splits its output again."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def join(*batches: jax.Array) -> tuple[jax.Array, Callable[[Any], list[Any]]]:
    """Batches b_1 ..., b_2 ... as one of b_1 + b_2 + ..., and the function that splits the output of a network for it.

    Examples alternate, so that each device holds a part of every batch. Laid end to end, the split outputs would have
    to move between devices.

    >>> images, split = join(labelled, unlabelled)
    >>> output_labelled, output_unlabelled = split(network(images))  # any tree of arrays, batch first
    """
    sizes = [len(batch) for batch in batches]
    groups = math.gcd(*sizes)
    ends = np.cumsum(sizes) // groups

    def grouped(x: jax.Array) -> jax.Array:
        return x.reshape(groups, len(x) // groups, *x.shape[1:])

    def split_array(x: jax.Array) -> list[jax.Array]:
        parts = jnp.split(grouped(x), ends[:-1], axis=1)
        return [p.reshape(size, *x.shape[1:]) for p, size in zip(parts, sizes, strict=True)]

    def split(tree: Any) -> list[Any]:
        leaves, structure = jax.tree.flatten(tree)
        return [structure.unflatten(of_batch) for of_batch in zip(*map(split_array, leaves), strict=True)]

    joined = jnp.concatenate([grouped(batch) for batch in batches], axis=1)
    return joined.reshape(sum(sizes), *batches[0].shape[1:]), split
