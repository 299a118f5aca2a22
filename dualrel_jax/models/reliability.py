"""Module 2, reliable prototype selection: how far each prototype of an image can be trusted."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dualrel_jax.models.prototypes import PrototypeOutput, centred_cosine

CONSISTENCIES = ("map", "descriptor", "both")
RELIABILITIES = ("uncertainty", "softmax", "uniform")


class ReliabilityHead(nn.Module):
    """Unreliability z of each prototype from its descriptors in two views: (b k c, b k c) -> b k.

    It reads the descriptors and does not shape them (no gradient). It is symmetric in the views, so one view may stand
    in for both at prediction.
    """

    hidden: int = 32

    @nn.compact
    def __call__(self, prototypes: jax.Array, other: jax.Array) -> jax.Array:
        prototypes, other = jax.lax.stop_gradient((prototypes, other))
        both = jnp.concatenate([prototypes + other, jnp.square(prototypes - other)], axis=-1)
        x = nn.relu(nn.Dense(self.hidden)(both))
        return nn.Dense(1, kernel_init=nn.initializers.zeros)(x)[..., 0]


@jax.named_scope("discrepancy")
def discrepancy(student: PrototypeOutput, teacher: PrototypeOutput, how: str = "map") -> jax.Array:
    """d_k of each prototype between two views of the same pixels, -> b k in [0, 2]; no gradient into the teacher.

    map: 1 - correlation of the activation maps. descriptor: 1 - cosine of the prototypes. both: their mean.
    """
    teacher = jax.lax.stop_gradient(teacher)
    flat = lambda maps: maps.reshape(*maps.shape[:2], -1)  # noqa: E731
    of_map = 1 - centred_cosine(flat(student.maps), flat(teacher.maps))
    of_descriptor = 1 - jnp.sum(student.prototypes * teacher.prototypes, axis=-1)
    return {"map": of_map, "descriptor": of_descriptor, "both": (of_map + of_descriptor) / 2}[how]


@jax.named_scope("confusion")
def confusion(maps: jax.Array, mitochondrion: jax.Array) -> jax.Array:
    """How much of each prototype lies on the other class, (b k y x, b y x) -> b k in [0, 1].

    A prototype has as much of a pixel as is assigned to it, the softmax over prototypes. `mitochondrion` is the
    probability of that class at each pixel.
    """
    share = jax.nn.softmax(maps, axis=1)
    foreground, background = jnp.split(share, 2, axis=1)
    p = mitochondrion[:, None]
    wrong = jnp.concatenate([foreground * (1 - p), background * p], axis=1)
    return wrong.sum(axis=(2, 3)) / (share.sum(axis=(2, 3)) + 1e-6)


def reliability_weights(z: jax.Array) -> jax.Array:
    """w_k = K softmax(-z), b k -> b k: positive, with mean 1 over the prototypes of an image."""
    return z.shape[-1] * jax.nn.softmax(-z, axis=-1)


def consistency_loss(d: jax.Array, weights: jax.Array) -> jax.Array:
    """Reliability-aware consistency, (b k, b k) -> b k: w_k d_k, which moves the prototypes and not their weights.

    The discrepancy enters as it is. Divided by its mean, as `reliability_loss` divides, its pull on the features would
    grow as they come to agree.
    """
    return jax.lax.stop_gradient(weights) * d


def reliability_loss(d: jax.Array, z: jax.Array, how: str = "uncertainty") -> jax.Array:
    """What the reliability learns, (b k, b k) -> b k; it moves z and not the prototypes. d: confusion or discrepancy.

    uncertainty: exp(-z) d~ + z (Kendall and Gal 2017), d~ = d / mean(d). Without that normalisation d is about 0.02
    and every z runs into its clamp. softmax: w d~ plus KL(w / K || uniform). uniform: 0, the ablation.
    """
    d = jax.lax.stop_gradient(d)
    relative = d / (d.mean() + 1e-6)
    if how == "uniform":
        return jnp.zeros_like(z)
    if how == "softmax":
        weights = reliability_weights(z)
        return weights * relative + weights * jnp.log(weights)
    z = jnp.clip(z, -5, 5)
    return jnp.exp(-z) * relative + z
