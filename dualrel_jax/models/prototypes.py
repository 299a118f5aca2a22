"""Module 1, reliable pixel aggregation: from the pixels of an image to its prototypes, and back to a segmentation.

Shapes: b images, k prototypes, i = y * x pixels of the feature map, n reference points, c channels.
The paper's supplement gives Eq. 5 and the roles of the parts; the formulas are ours (docs/method.md).
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

_EPSILON = 1e-6
_EQUAL = 1e-4  # of their mean square: references that vary by less are equal
_TINY = 1e-20  # where a norm is exactly 0


class PrototypeOutput(NamedTuple):
    prototypes: jax.Array  # b k c, unit length: the image's own prototypes
    maps: jax.Array  # b k y x: activation maps, cosine similarity / temperature
    usage: jax.Array  # b y x: Eq. 5
    references: jax.Array  # b n: flat indices of the reference pixels
    direct: jax.Array  # b k y x: direct correlation
    rectified: jax.Array  # b k y x: attention that aggregates the pixels, sums to 1 over y x


class PrototypeBank(nn.Module):
    """K learned queries that gather the pixels of *this* image into K prototypes.

    The first half of the prototypes stands for mitochondria, the second half for background. The learned queries
    are not added back to the result: with that residual the prototypes hardly depend on the image.
    """

    num_prototypes: int = 16
    num_references: int = 64
    dim: int = 32
    rectification: str = "add"  # or "direct"
    temperature: float = 0.1

    @nn.compact
    def __call__(self, features: jax.Array) -> PrototypeOutput:
        """features: b y x c of a decoder level."""
        b, y, x, _ = features.shape
        pixels = features.reshape(b, y * x, -1)
        # Sums of float32 from features as they are, which are never written out as float32.
        wide = functools.partial(jax.lax.dot_general, preferred_element_type=jnp.float32)
        project = functools.partial(nn.Dense, self.dim, use_bias=False, dtype=pixels.dtype, dot_general=wide)
        bank = self.param("bank", nn.initializers.normal(1.0), (self.num_prototypes, self.dim))
        queries = nn.Dense(self.dim, use_bias=False, name="query")(bank)
        keys = project(name="key")(pixels)
        values = unit(project(name="value")(pixels))
        gain = self.param("gain", nn.initializers.ones, ())

        direct = direct_correlation(queries, keys)
        use = usage(direct)
        references = reference_points(use, self.num_references)
        referential = referential_correlation(queries, keys, gather_pixels(keys, references))
        rectified = rectify(direct, referential, gain, self.rectification)
        prototypes = aggregate(rectified, values)
        maps = activation_maps(prototypes, values, self.temperature)
        as_map = lambda t: t.reshape(*t.shape[:-1], y, x)  # noqa: E731
        return PrototypeOutput(prototypes, as_map(maps), as_map(use), references, as_map(direct), as_map(rectified))


def unit(vectors: jax.Array) -> jax.Array:
    """Scales the last axis to length 1."""
    return vectors * jax.lax.rsqrt(jnp.sum(jnp.square(vectors), axis=-1, keepdims=True) + _EPSILON)


def direct_correlation(queries: jax.Array, keys: jax.Array) -> jax.Array:
    """Pairwise correlation s of prototype and pixel: (k c, b i c) -> b k i, a dot product / sqrt(c)."""
    return jnp.einsum("kc,bic->bki", queries, keys) / jnp.sqrt(queries.shape[-1])


def usage(direct: jax.Array) -> jax.Array:
    """Eq. 5, u_i = sum_k s_{k,i}: b k i -> b i, with s the softmax over *pixels* (over prototypes u would be 1)."""
    return jax.nn.softmax(direct, axis=-1).sum(axis=1)


def reference_points(use: jax.Array, num_references: int) -> jax.Array:
    """Indices of the pixels of largest usage, b i -> b n; at most as many as there are pixels. No gradient."""
    return jax.lax.top_k(jax.lax.stop_gradient(use), min(num_references, use.shape[-1]))[1]


def gather_pixels(pixels: jax.Array, indices: jax.Array) -> jax.Array:
    """(b i c, b n) -> b n c."""
    return jnp.take_along_axis(pixels, indices[..., None], axis=1)


def referential_correlation(queries: jax.Array, keys: jax.Array, references: jax.Array) -> jax.Array:
    """Do a prototype and a pixel agree about the reference points? (k c, b i c, b n c) -> b k i in [-1, 1].

    The profile of a vector v is (v . r_1, ..., v . r_n); the result is the cosine of the two mean-centred profiles.
    Profiles are linear in v, so with the covariance G of the references it equals q'Gx / sqrt(q'Gq x'Gx):
    c x c products instead of an i x n matrix.

    v'Gv is measured against the references' mean square, E|r|^2 |v|^2 / c: along v they are taken for equal where they
    differ by less than the square root of _EQUAL of their length, and the result goes to 0. So it does not depend on
    any vector's length, and its gradient stays small. At the full learning rate references come to agree within a few
    steps, where that gradient grew to 1e3 against a fixed epsilon, and would grow without end against tr(G) |v|^2 / c.
    """
    # In full float32: rounded to TF32, a GPU's default, the covariance may get negative eigenvalues, without a root.
    product = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)
    centred = references - references.mean(axis=1, keepdims=True)
    covariance = product("bnc,bnd->bcd", centred, centred) / references.shape[1]
    keys_g = product("bic,bcd->bid", keys, covariance)
    queries_g = product("kc,bcd->bkd", queries, covariance)
    mean_square = jnp.square(references).sum(axis=-1).mean(axis=1, keepdims=True) / queries.shape[-1]  # b 1

    def inverse_norm(v: jax.Array, v_g: jax.Array) -> jax.Array:
        variance = jnp.maximum(jnp.sum(v_g * v, axis=-1), 0)
        floor = _EQUAL * mean_square * jnp.sum(jnp.square(v), axis=-1)
        return jax.lax.rsqrt(variance + floor + _TINY)

    inverse = inverse_norm(queries[None], queries_g)[..., None] * inverse_norm(keys, keys_g)[:, None]
    return product("kc,bic->bki", queries, keys_g) * inverse


def rectify(direct: jax.Array, referential: jax.Array, gain: jax.Array, how: str) -> jax.Array:
    """Attention over pixels, b k i -> b k i, each row summing to 1.

    add: softmax(direct + gain * referential). direct: softmax(direct), the ablation's floor.
    """
    return jax.nn.softmax(direct + gain * referential if how == "add" else direct, axis=-1)


def aggregate(attention: jax.Array, values: jax.Array) -> jax.Array:
    """The image's prototypes: (b k i, b i c) -> b k c of unit length."""
    return unit(jnp.einsum("bki,bic->bkc", attention, values))


def activation_maps(prototypes: jax.Array, values: jax.Array, temperature: float) -> jax.Array:
    """Cosine of prototype and pixel / temperature: (b k c, b i c), both of unit length -> b k i."""
    return jnp.einsum("bkc,bic->bki", prototypes, values) / temperature


@jax.named_scope("fuse")
def fuse(maps: jax.Array) -> jax.Array:
    """Class logits from activation maps: b k y x -> b y x 2 (background, mitochondrion).

    A class scores the logsumexp over its half of the prototypes.
    """
    half = maps.shape[1] // 2
    foreground = jax.nn.logsumexp(maps[:, :half], axis=1)
    background = jax.nn.logsumexp(maps[:, half:], axis=1)
    return jnp.stack([background, foreground], axis=-1)


def centred_cosine(a: jax.Array, b: jax.Array) -> jax.Array:
    """Correlation coefficient over the last axis: (... i, ... i) -> ..."""
    a = a - a.mean(axis=-1, keepdims=True)
    b = b - b.mean(axis=-1, keepdims=True)
    norms = jnp.sum(a * a, axis=-1) * jnp.sum(b * b, axis=-1)
    return jnp.sum(a * b, axis=-1) * jax.lax.rsqrt(norms + _EPSILON)


def diversity(maps: jax.Array) -> jax.Array:
    """Diversity loss, b k y x -> b in [0, 1]: mean over pairs k != l of the cosine between activation maps.

    Compared as assignments, the softmax over prototypes at each pixel: these are positive, so the least is reached
    by prototypes that share the image out among them. Raw maps of mitochondrion and background must oppose each
    other, and their cosine would reward each half for collapsing into one map.
    """
    assignments = jax.nn.softmax(maps, axis=1)
    flat = unit(assignments.reshape(*maps.shape[:2], -1))
    cosine = jnp.einsum("bki,bli->bkl", flat, flat)
    k = maps.shape[1]
    return jnp.sum(cosine * (1 - jnp.eye(k))[None], axis=(1, 2)) / (k * (k - 1))
