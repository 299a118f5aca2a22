"""CCT's perturbations of the encoder's deepest features, and its auxiliary decoders.

Ouali, Hudelot and Tami, "Semi-Supervised Semantic Segmentation with Cross-Consistency Training", CVPR 2020, sec. 3.2.
Features z are b y x c, `foreground` b y x is 1 where the main decoder sees a mitochondrion, at the features' size.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dualrel_jax.models import unet


class AuxiliaryDecoder(nn.Module):
    """Sub-pixel upsampling alone (Shi et al. 2016): b y x c -> logits b Y X 2, Y = stem 2^steps y, in float32."""

    steps: int  # doublings to the first level of the U-Net
    width: int
    dtype: jnp.dtype
    stem: int = 1  # that of the U-Net

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        x = nn.Dense(self.width, use_bias=False, dtype=self.dtype)(z)
        # Every layer is 1 x 1, so the pixel shuffles of all steps are one, at the end.
        for _ in range(self.steps):
            x = nn.relu(nn.Dense(4 * self.width, kernel_init=equal_subpixels, dtype=self.dtype)(x))
            x = x.reshape(*x.shape[:-1], 4, self.width)
        channels = 2 * self.stem**2
        logits = nn.Dense(channels, kernel_init=unet.equal_pixels(self.stem), dtype=jnp.float32)(x.astype(jnp.float32))
        cells = pixel_shuffle(logits.reshape(*z.shape[:3], -1, channels), self.steps)
        return unet.pixel_shuffle(cells, self.stem)


def equal_subpixels(key: jax.Array, shape: tuple[int, int], dtype=jnp.float32) -> jax.Array:
    """Initial weights c 4w whose four sub-pixels are equal: no checkerboard at the start (Aitken et al. 2017)."""
    return jnp.tile(nn.initializers.he_normal()(key, (shape[0], shape[1] // 4), dtype), (1, 4))


def pixel_shuffle(x: jax.Array, steps: int) -> jax.Array:
    """b y x 4^steps c -> b 2^steps y 2^steps x c; the sub-pixel index is quaternary, coarsest first, each digit y x."""
    b, y, x_size, _, c = x.shape
    x = x.reshape(b, y, x_size, *(2, 2) * steps, c)
    rows, columns = (tuple(range(first, 3 + 2 * steps, 2)) for first in (3, 4))
    return x.transpose(0, 1, *rows, 2, *columns, x.ndim - 1).reshape(b, y * 2**steps, x_size * 2**steps, c)


def feature_noise(key: jax.Array, z: jax.Array, strength: float) -> jax.Array:
    """F-Noise: z (1 + n), n uniform in +-strength for each place and channel, the same for all images."""
    noise = jax.random.uniform(key, (1, *z.shape[1:]), z.dtype, -strength, strength)
    return z * (1 + noise)


def feature_drop(key: jax.Array, z: jax.Array, low: float, high: float) -> jax.Array:
    """F-Drop: zero where the mean over channels reaches a fraction, drawn from low..high, of the image's maximum."""
    attention = z.mean(axis=-1, keepdims=True)
    fraction = jax.random.uniform(key, (), z.dtype, low, high)
    return z * (attention < fraction * attention.max(axis=(1, 2), keepdims=True))


def channel_dropout(key: jax.Array, z: jax.Array, rate: float) -> jax.Array:
    """DropOut: whole channels of an image are zeroed with chance `rate`, the others divided by 1 - rate."""
    kept = jax.random.bernoulli(key, 1 - rate, (z.shape[0], 1, 1, z.shape[-1]))
    return z * kept / (1 - rate)


def guided_cutout(key: jax.Array, z: jax.Array, foreground: jax.Array, fraction: float) -> jax.Array:
    """G-Cutout: in the bounding box of every object, zero a box of `fraction` of its sides, at a random place in it."""
    keys = jax.random.split(key, len(z))
    cut = jax.vmap(lambda key, mask: _cut_boxes(key, mask, fraction))(keys, foreground)
    return z * ~cut[..., None]


def _cut_boxes(key: jax.Array, mask: jax.Array, fraction: float) -> jax.Array:
    """True in one random box for each object of `mask` y x; every pixel of an object holds that object's box."""
    lows, highs, names = object_boxes(mask)
    sides = highs - lows + 1
    boxes = jnp.maximum(jnp.round(fraction * sides), 1)  # at least one place: objects are few places wide at this size
    # One draw for each name an object may have, so all its pixels have the same.
    where = jax.random.uniform(key, (mask.size, 2))[names]
    starts = lows + jnp.floor(where * (sides - boxes + 1))
    inside = []
    for axis, size in enumerate(mask.shape):
        start, box = starts[..., axis].reshape(-1, 1), boxes[..., axis].reshape(-1, 1)
        place = jnp.arange(size)[None]
        inside.append((place >= start) & (place < start + box))
    rows = (inside[0] & mask.reshape(-1, 1)).astype(jnp.float32)
    return jnp.einsum("ny,nx->yx", rows, inside[1].astype(jnp.float32)) > 0


def object_boxes(mask: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """First and last place (y x 2 each) and name (y x, an index) of the 8-connected object of each pixel of a mask y x.

    Each pixel takes the maximum over its neighbours y + x times: an object with a longer way through it (a spiral)
    counts as several. Values outside the mask mean nothing.
    """
    mask = mask.astype(bool)
    y, x = mask.shape
    place = jnp.stack(jnp.meshgrid(jnp.arange(y), jnp.arange(x), indexing="ij"), axis=-1)
    name = jnp.arange(mask.size).reshape(y, x, 1)
    lowest = -mask.size  # below every value
    values = jnp.where(mask[..., None], jnp.concatenate([place, -place, name], axis=-1), lowest)

    def dilate(_, values):
        for axis, size in enumerate((y, x)):
            padding = [(1, 1) if a == axis else (0, 0) for a in range(3)]
            padded = jnp.pad(values, padding, constant_values=lowest)
            before, after = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in (0, 2))
            values = jnp.maximum(values, jnp.maximum(before, after))
        return jnp.where(mask[..., None], values, lowest)

    values = jax.lax.fori_loop(0, y + x, dilate, values)
    return -values[..., 2:4], values[..., :2], values[..., 4]


def keep_foreground(z: jax.Array, foreground: jax.Array) -> jax.Array:
    """Con-Msk: the context is zeroed."""
    return z * (foreground[..., None] == 1)


def keep_context(z: jax.Array, foreground: jax.Array) -> jax.Array:
    """Obj-Msk: the objects are zeroed."""
    return z * (foreground[..., None] == 0)
