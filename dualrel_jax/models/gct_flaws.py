"""GCT's flaw maps as pure functions: their ground truth, their handling, and what each network learns from the other.

Ke, Qiu, Li, Yan and Lau, "Guided Collaborative Training for Pixel-wise Semi-Supervised Learning", ECCV 2020. Maps are
b s s with the side s of the crops; every length follows from it.
"""

import jax
import jax.numpy as jnp
import numpy as np

from dualrel_jax.constants import IGNORE


def ground_truth(probability: jax.Array, label: jax.Array, scale: float, dilations: int) -> jax.Array:
    """Target of the detector for a prediction, b s s 2 and b s s -> b s s in 0..1.

    `scale` times the absolute error summed over classes, 0 at ignored pixels, blurred over s/8; then `dilations` times
    dilated and blurred over s/4; then stretched to 0..1 image by image.
    """
    truth = jax.nn.one_hot(label, 2)
    error = jnp.where(label == IGNORE, 0.0, scale * jnp.sum(jnp.abs(truth - probability), axis=-1))
    size = label.shape[1]
    error = blur(error, size // 8)
    for _ in range(dilations):
        error = blur(dilate(error), size // 4)
    return stretch(error)


def handle(flaws: jax.Array, floor: float) -> jax.Array:
    """Detector output -> a map to act on, b s s in 0..1: positive, blurred over s/16, stretched; all 0 if <= floor."""
    flaws = blur(jax.nn.relu(jax.lax.stop_gradient(flaws)), flaws.shape[1] // 16)
    return stretch(flaws) * (flaws.max(axis=(1, 2), keepdims=True) > floor)


def consistency_target(
    own: jax.Array, other: jax.Array, own_flaws: jax.Array, other_flaws: jax.Array, threshold: float
) -> jax.Array:
    """The less flawed of two predictions b s s 2, pixel by pixel; one's own where they tie or both exceed threshold."""
    own_flaws, other_flaws = (jnp.where(q > threshold, 1.0, q) for q in (own_flaws, other_flaws))
    return jax.lax.stop_gradient(jnp.where((other_flaws >= own_flaws)[..., None], own, other))


def blur(maps: jax.Array, kernel: int) -> jax.Array:
    """Gaussian over `kernel` pixels (the next odd number), sigma = 0.3 ((k - 1) / 2 - 1) + 0.8, edges reflected."""
    matrix = _blur_matrix(maps.shape[1], kernel + 1 - kernel % 2)
    # As two small matrix products: faster than shifted sums or convolutions with so large a kernel.
    return jnp.einsum("yi,bij,xj->byx", matrix, maps, matrix, precision="highest")


def _blur_matrix(size: int, kernel: int) -> np.ndarray:
    """Row i holds the weights of all pixels in the blurred pixel i."""
    radius = kernel // 2
    sigma = 0.3 * (radius - 1) + 0.8
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(np.eye(size), ((radius, radius), (0, 0)), mode="reflect")
    rows = sum(w * padded[i : i + size] for i, w in enumerate(weights / weights.sum()))
    return rows.astype(np.float32)


def dilate(maps: jax.Array) -> jax.Array:
    """Maximum over 3 x 3 pixels."""
    for axis in (1, 2):
        size = maps.shape[axis]
        padded = jnp.pad(maps, [(1, 1) if a == axis else (0, 0) for a in range(3)], mode="edge")
        before, after = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in (0, 2))
        maps = jnp.maximum(maps, jnp.maximum(before, after))
    return maps


def stretch(maps: jax.Array) -> jax.Array:
    """Each map to 0..1; a constant one to 0."""
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    return (maps - low) / (high - low + 1e-9)
