"""Several batches through a network as one."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def join(*batches: jax.Array) -> tuple[jax.Array, Callable[[Any], list[Any]]]:
    """Batches b_1 ..., b_2 ... as one of b_1 + b_2 + ..., and the function that parts what is computed from it.

    Examples alternate: each device's share of the whole is made of its shares of the parts. Laid end to end, the parts
    of what is computed would have to move between devices.

    >>> images, part = join(labelled, unlabelled)
    >>> of_labelled, of_unlabelled = part(network(images))  # any tree of arrays, batch first
    """
    sizes = [len(batch) for batch in batches]
    groups = math.gcd(*sizes)
    ends = np.cumsum(sizes) // groups

    def grouped(x: jax.Array) -> jax.Array:
        return x.reshape(groups, len(x) // groups, *x.shape[1:])

    def part_array(x: jax.Array) -> list[jax.Array]:
        parts = jnp.split(grouped(x), ends[:-1], axis=1)
        return [p.reshape(size, *x.shape[1:]) for p, size in zip(parts, sizes, strict=True)]

    def part(tree: Any) -> list[Any]:
        leaves, structure = jax.tree.flatten(tree)
        return [structure.unflatten(leaves_of_one) for leaves_of_one in zip(*map(part_array, leaves), strict=True)]

    joined = jnp.concatenate([grouped(batch) for batch in batches], axis=1)
    return joined.reshape(sum(sizes), *batches[0].shape[1:]), part
