"""Module 2, reliable prototype selection: how far each prototype of an image can be trusted."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dualrel_jax.models.prototypes import PrototypeOutput, centred_cosine


class ReliabilityHead(nn.Module):
    """Log-variance z of each prototype (Kendall and Gal 2017) from its descriptors in two views: (b k c, b k c) -> b k.

    The larger z, the less the prototype is trusted. The head reads the descriptors and does not shape them (no
    gradient). It is symmetric in the views, so one view may stand in for both at prediction.
    """

    hidden: int = 32

    @nn.compact
    def __call__(self, prototypes: jax.Array, other: jax.Array) -> jax.Array:
        prototypes, other = jax.lax.stop_gradient((prototypes, other))
        both = jnp.concatenate([prototypes + other, jnp.square(prototypes - other)], axis=-1)
        x = nn.relu(nn.Dense(self.hidden)(both))
        return nn.Dense(1, kernel_init=nn.initializers.zeros)(x)[..., 0]


@jax.named_scope("discrepancy")
def discrepancy(student: PrototypeOutput, teacher: PrototypeOutput) -> jax.Array:
    """d_k of each prototype between two views of the same pixels, -> b k in [0, 2]; no gradient into the teacher.

    1 - correlation of the two activation maps.
    """
    flat = lambda maps: maps.reshape(*maps.shape[:2], -1)  # noqa: E731
    return 1 - centred_cosine(flat(student.maps), flat(jax.lax.stop_gradient(teacher.maps)))


@jax.named_scope("confusion")
def confusion(maps: jax.Array, probability: jax.Array) -> jax.Array:
    """Fraction of each prototype that lies on the other class, (b k y x, b Y X 2) -> b k in [0, 1].

    A prototype has as much of a pixel as is assigned to it, the softmax over prototypes. `probability` is that of
    background and mitochondrion at each pixel; both are 0 where the label is not known.
    """
    small = jax.image.resize(probability, (len(maps), *maps.shape[2:], 2), "linear")
    background, mitochondrion = small[..., 0], small[..., 1]
    of_mitochondria, of_background = jnp.split(jax.nn.softmax(maps, axis=1), 2, axis=1)
    wrong = jnp.concatenate([of_mitochondria * background[:, None], of_background * mitochondrion[:, None]], axis=1)
    known = jnp.concatenate([of_mitochondria, of_background], axis=1) * (background + mitochondrion)[:, None]
    return wrong.sum(axis=(2, 3)) / (known.sum(axis=(2, 3)) + 1e-6)


def reliability_weights(z: jax.Array) -> jax.Array:
    """w_k = K softmax(-z), b k -> b k: positive, with mean 1 over the prototypes of an image."""
    return z.shape[-1] * jax.nn.softmax(-z, axis=-1)


def consistency_loss(d: jax.Array, weights: jax.Array) -> jax.Array:
    """Reliability-aware consistency, (b k, b k) -> b k: w_k d_k, which moves the prototypes and not their weights.

    The discrepancy enters as it is. Divided by its mean, as `reliability_loss` divides, its pull on the features would
    grow as they come to agree.
    """
    return jax.lax.stop_gradient(weights) * d


def reliability_loss(target: jax.Array, z: jax.Array, known: jax.Array | None = None) -> jax.Array:
    """What the reliability learns, (b k, b k, b) -> b k; it moves z and not the prototypes.

    exp(-z) e~ + z, the likelihood of an error with log-variance z (Kendall and Gal 2017), e~ = e / mean(e), where the
    `target` e is a confusion or a discrepancy; e~ is clipped, so that the optimum log e~ lies in -5 to 5. Images that
    are not `known` (0 or 1; default: all are) teach nothing.
    """
    target = jax.lax.stop_gradient(target)
    weight = jnp.ones_like(target) if known is None else jnp.broadcast_to(known[:, None], target.shape)
    relative = target / (jnp.sum(target * weight) / jnp.maximum(weight.sum(), 1.0) + 1e-6)
    relative = jnp.clip(relative, math.exp(-5), math.exp(5))
    return (jnp.exp(-z) * relative + z) * weight
