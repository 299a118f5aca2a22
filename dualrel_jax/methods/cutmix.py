"""CutMix: boxes of one crop pasted into another (Yun et al. 2019; French et al. 2020)."""

import jax
import jax.numpy as jnp


def boxes(key: jax.Array, count: int, side: int, area: tuple[float, float], aspect: tuple[float, float]) -> jax.Array:
    """`count` masks y x bool of one box each, on crops of side x side pixels.

    The box covers a fraction of the crop drawn uniformly from `area`; its height / width is drawn log-uniformly from
    `aspect`, held where the box still fits. It lies fully inside, every place equally likely.
    """
    u = jax.random.uniform(key, (4, count))
    fraction = area[0] + (area[1] - area[0]) * u[0]
    ratio = jnp.exp(jnp.log(aspect[0]) + (jnp.log(aspect[1]) - jnp.log(aspect[0])) * u[1])
    ratio = jnp.clip(ratio, fraction, 1 / fraction)
    height, width = side * jnp.sqrt(fraction * ratio), side * jnp.sqrt(fraction / ratio)
    top, left = u[2] * (side - height), u[3] * (side - width)
    return _inside(top, height, side)[:, :, None] & _inside(left, width, side)[:, None, :]


def three_boxes(key: jax.Array, count: int, side: int) -> jax.Array:
    """CPS's masks: `count` y x bool, three boxes combined by exclusive or.

    Each box has an area fraction f ~ U(0.25, 0.5), a height f^U(0, 1) and a width f / height, both shortened by
    sqrt(1 / 3).
    """
    u = jax.random.uniform(key, (4, 3 * count))
    fraction = 0.25 + 0.25 * u[0]
    height, width = fraction ** u[1], fraction ** (1 - u[1])
    height, width = (side * size * jnp.sqrt(1 / 3) for size in (height, width))
    top, left = u[2] * (side - height), u[3] * (side - width)
    masks = _inside(top, height, side)[:, :, None] & _inside(left, width, side)[:, None, :]
    return jnp.sum(masks.reshape(count, 3, side, side), axis=1) % 2 == 1


def paste(mask: jax.Array, crop: jax.Array, other: jax.Array) -> jax.Array:
    """`other` where the mask b y x is set, else `crop`: b y x or b y x c."""
    return jnp.where(mask.reshape(*mask.shape, *[1] * (crop.ndim - mask.ndim)), other, crop)


def paste_next(mask: jax.Array, crops: jax.Array) -> jax.Array:
    """Each crop with the next one of the batch pasted where its mask is set: b y x or b y x c, b 2 or more."""
    return paste(mask, crops, jnp.roll(crops, 1, axis=0))


def _inside(start: jax.Array, length: jax.Array, side: int) -> jax.Array:
    """Which of the `side` pixel centres lie in [start, start + length): n -> n side bool."""
    centres = jnp.arange(side)[None] + 0.5
    return (centres >= start[:, None]) & (centres < (start + length)[:, None])
