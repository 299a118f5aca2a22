"""GCT's flaw detector: the error of a prediction at each pixel, from the image and the prediction."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dualrel_jax.models.unet import pixel_unshuffle


class FlawDetector(nn.Module):
    """Image b y x 1 and probability b y x 2 -> flaws b y x, float32, about 0..1 but not bounded (Ke et al. 2020).

    4 x 4 convolutions, each stride followed by a convolution that keeps the size. With 5 strides and width 64 it is the
    authors' detector, up to one more row of padding where that keeps sizes whole, so that any size works.
    """

    width: int  # channels of the first layer, doubled at each stride
    strides: int  # halvings of the size, 2 or more
    dtype: jnp.dtype = jnp.float32
    stem: int = 1  # that of the U-Nets: the detector sees cells of stem x stem pixels too

    @nn.compact
    def __call__(self, image: jax.Array, probability: jax.Array, train: bool = False) -> jax.Array:
        x = pixel_unshuffle(jnp.concatenate([image, probability], axis=-1).astype(self.dtype), self.stem)
        for level in range(self.strides - 1):
            for stride in (2, 1) if level else (2,):
                # No bias: the norm takes it away, and what is left of its gradient is rounding.
                x = nn.Conv(self.width * 2**level, (4, 4), stride, use_bias=False, dtype=self.dtype)(x)
                x = nn.leaky_relu(IBNorm(self.dtype)(x, train), 0.2)
        x = nn.Conv(1, (4, 4), 2, dtype=jnp.float32)(x.astype(jnp.float32))
        return jax.image.resize(x[..., 0], image.shape[:3], "linear")


class IBNorm(nn.Module):
    """First half of the channels: batch norm; second half: instance norm without scale and offset."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        batch, instance = jnp.split(x, [(x.shape[-1] + 1) // 2], axis=-1)
        batch = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(batch)
        instance = nn.InstanceNorm(use_scale=False, use_bias=False, epsilon=1e-5, dtype=self.dtype)(instance)
        return jnp.concatenate([batch, instance], axis=-1)


def num_strides(side: int, cells: int) -> int:
    """Strides, 2 to 5, that leave a flaw map of at least `cells` a side for an input of that side, if any do.

    The authors' 5 strides on crops of 321 pixels leave 10.
    """
    return min(max((side // cells).bit_length() - 1, 2), 5)
