"""Augmentation in pure JAX, on the device: one geometry a crop, then weak and strong photometric views of it."""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

FILTER_PX = 5  # side of a random filter
KNOTS, LIMIT = 8, 2.5  # of a random curve, and where it ends, in standard deviations of the greys
_LEAST_DEVIATION = 1e-6  # of the greys of a crop that has a single one


class RawBatch(NamedTuple):
    """uint8 crops as the pipelines deliver them."""

    image: Any  # b y x, labelled crops
    label: Any  # b y x, 0, 1 or 255 = ignore
    unlabelled: Any  # u y x (u = 0 for a method that reads none)


class Batch(NamedTuple):
    """What a loss sees: augmented crops on the device, images about -2..2."""

    image: jax.Array  # b y x 1, labelled crops
    label: jax.Array  # b y x int32: 0, 1 or constants.IGNORE
    weak: jax.Array  # u y x 1, unlabelled crops, weak view (u = 0 for a method without unlabelled crops)
    strong: jax.Array  # s u y x 1, the same crops in s strong views, the same geometry


def margin(augment: ConfigDict, crop_px: int) -> int:
    """What zoom and elastic deformation may read around a crop, pixels on every side."""
    smallest_zoom = min(1.0, augment.scale[0])
    return math.ceil(crop_px * (1 / smallest_zoom - 1) / 2) + math.ceil(2 * augment.elastic_px)


def to_float(image: jax.Array) -> jax.Array:
    """What a network sees: uint8 b y x -> float32 b y x 1, grey 0.5 at 0 and 0.25 a unit."""
    return normalise(image.astype(jnp.float32) / 255)[..., None]


def normalise(image: jax.Array) -> jax.Array:
    return (image - 0.5) / 0.25


def augment_batch(key: jax.Array, raw: RawBatch, augment: ConfigDict, crop_px: int, strong_views: int) -> Batch:
    """uint8 crops -> the batch a loss sees. Labelled crops are seen strongly; each crop has its own random stream."""
    label_key, unlabelled_key = jax.random.split(key)

    def labelled(key, image, label):
        geometry, photometry = jax.random.split(key)
        image, label = deform(geometry, image.astype(jnp.float32) / 255, label, augment, crop_px)
        return normalise(photometric(photometry, image, augment, 1.0)), label.astype(jnp.int32)

    def unlabelled(key, image):
        geometry, *photometry = jax.random.split(key, 2 + strong_views)
        image, _ = deform(geometry, image.astype(jnp.float32) / 255, None, augment, crop_px)
        weak = photometric(photometry[0], image, augment, augment.weak) if augment.weak > 0 else image
        strong = [photometric(k, image, augment, 1.0) for k in photometry[1:]]
        return normalise(weak), [normalise(view) for view in strong]

    image, label = jax.vmap(labelled)(jax.random.split(label_key, len(raw.image)), raw.image, raw.label)
    if len(raw.unlabelled) == 0:
        nothing = jnp.zeros((0, crop_px, crop_px, 1))
        return Batch(image[..., None], label, nothing, nothing[None])
    keys = jax.random.split(unlabelled_key, len(raw.unlabelled))
    weak, strong = jax.vmap(unlabelled)(keys, raw.unlabelled)
    return Batch(image[..., None], label, weak[..., None], jnp.stack(strong)[..., None])


def deform(key: jax.Array, image: jax.Array, label: jax.Array | None, augment: ConfigDict, crop_px: int):
    """One geometry for image and label y x: zoom and elastic deformation about the centre, then flips and turns."""
    turn_key, zoom_key, elastic_key = jax.random.split(key, 3)
    if tuple(augment.scale) != (1.0, 1.0) or augment.elastic_px > 0:
        where = _coordinates(zoom_key, elastic_key, augment, crop_px)
        sample = lambda x, order: jax.scipy.ndimage.map_coordinates(x, where, order, mode="reflect")  # noqa: E731
        image = sample(image, 1)
        label = None if label is None else sample(label, 0)
    if augment.flips:
        image = turn(turn_key, image)
        label = None if label is None else turn(turn_key, label)
    return image, label


def turn(key: jax.Array, x: jax.Array) -> jax.Array:
    """One of the 8 mirrored quarter turns of a square y x."""
    down, right, transpose = jax.random.bernoulli(key, shape=(3,))
    x = jnp.where(down, x[::-1], x)
    x = jnp.where(right, x[:, ::-1], x)
    return jnp.where(transpose, x.T, x)


def _coordinates(zoom_key, elastic_key, augment: ConfigDict, crop_px: int) -> jax.Array:
    """Where in a crop with its margin each pixel of the crop is read: 2 y x, pixels."""
    zoom = draw_zoom(zoom_key, augment.scale)
    middle = (crop_px - 1) / 2
    axis = (jnp.arange(crop_px) - middle) / zoom + middle + margin(augment, crop_px)
    where = jnp.stack(jnp.meshgrid(axis, axis, indexing="ij"))
    if augment.elastic_px > 0:
        points = crop_px // augment.elastic_grid_px + 2
        field = jax.random.normal(elastic_key, (2, points, points)) * augment.elastic_px
        where += jax.image.resize(field, where.shape, "cubic")
    return where


def draw_zoom(key: jax.Array, scale: tuple[float, float]) -> jax.Array:
    """A factor, log-uniform in `scale`."""
    low, high = scale
    return jnp.exp(jax.random.uniform(key, minval=jnp.log(low), maxval=jnp.log(high)))


def zoom_each(zooms: jax.Array, x: jax.Array) -> jax.Array:
    """Squares b y x c, each zoomed about its centre by its own of b factors: bilinear, mirrored where a square ends.

    As matrix products along y and x, which accelerators do faster than reading at computed places.
    """
    side = x.shape[1]
    pixels = jnp.arange(side, dtype=x.dtype)
    read = (pixels - (side - 1) / 2)[None] / zooms[:, None] + side / 2  # from the edge of the first pixel
    period = read % (2 * side)
    mirrored = jnp.clip(jnp.minimum(period, 2 * side - period) - 0.5, 0, side - 1)
    weights = jnp.maximum(0, 1 - jnp.abs(mirrored[:, :, None] - pixels[None, None]))
    return jnp.einsum("bvy,byxc,bux->bvuc", weights, x, weights, precision=jax.lax.Precision.HIGHEST)


def photometric(key: jax.Array, image: jax.Array, augment: ConfigDict, strength: float) -> jax.Array:
    """Filter, curve, contrast, brightness, gamma, blur and noise on y x in 0..1; `strength` scales them.

    Each comes with its own chance, `augment.probability`.
    """
    if augment.filter or augment.curve:
        other_key = jax.random.fold_in(key, 2)  # not one of the two below: split(key, n)[i] is fold_in(key, i)
        image = as_another_microscope(other_key, image, augment, strength)
    draw_key, noise_key = jax.random.split(key)
    u = jax.random.uniform(draw_key, (10,))  # one draw: each call of the generator costs compile time
    applied = jnp.where(u[:5] < augment.probability, strength, 0.0)
    signed = 2 * u[5:8] - 1

    mean = image.mean()
    image = (image - mean) * (1 + augment.contrast) ** (signed[0] * applied[0]) + mean
    image = image + augment.brightness * signed[1] * applied[1]
    image = jnp.clip(image, 1e-3, 1.0) ** ((1 + augment.gamma) ** (signed[2] * applied[2]))
    image = blur(image, augment.blur_px * u[8] * applied[3], augment.blur_px)
    return image + augment.noise * u[9] * applied[4] * jax.random.normal(noise_key, image.shape)


def as_another_microscope(key: jax.Array, image: jax.Array, augment: ConfigDict, strength: float) -> jax.Array:
    """y x through a random filter and a random rising curve of the greys, each with its own chance.

    Mean and standard deviation of the greys stay: contrast and brightness change them.
    """
    chance_key, filter_key, curve_key = jax.random.split(key, 3)
    filtered, curved = jax.random.uniform(chance_key, (2,)) < augment.probability
    seen = standardised(image)
    seen = jnp.where(filtered, standardised(random_filter(filter_key, seen, augment.filter * strength)), seen)
    seen = jnp.where(curved, standardised(random_curve(curve_key, seen, augment.curve * strength)), seen)
    return jnp.where(filtered | curved, seen * (image.std() + _LEAST_DEVIATION) + image.mean(), image)


def standardised(image: jax.Array) -> jax.Array:
    """Mean 0 and standard deviation 1; of a single grey 0."""
    return (image - image.mean()) / (image.std() + _LEAST_DEVIATION)


def random_filter(key: jax.Array, image: jax.Array, size: float) -> jax.Array:
    """The identity plus FILTER_PX x FILTER_PX normal weights of sum 0, whose deviation is uniform up to `size`."""
    size_key, weights_key = jax.random.split(key)
    kernel = jax.random.normal(weights_key, (FILTER_PX, FILTER_PX)) * size * jax.random.uniform(size_key)
    kernel = (kernel - kernel.mean()).at[FILTER_PX // 2, FILTER_PX // 2].add(1)
    padded = jnp.pad(image, FILTER_PX // 2, mode="reflect")
    places = itertools.product(range(FILTER_PX), repeat=2)
    # Shifted sums, not a convolution: every image has its own kernel.
    return sum(kernel[i, j] * jax.lax.dynamic_slice(padded, (i, j), image.shape) for i, j in places)


def random_curve(key: jax.Array, standard: jax.Array, size: float) -> jax.Array:
    """Standardised greys through KNOTS knots, evenly spaced over ± LIMIT; the log of slopes has a deviation of `size`.

    Beyond the limit the slope is 1.
    """
    slopes = jnp.exp(size * jax.random.normal(key, (KNOTS - 1,)))
    heights = jnp.concatenate([jnp.zeros(1), slopes.cumsum()])
    place = (standard / (2 * LIMIT) + 0.5) * (KNOTS - 1)
    inside = place.clip(0, KNOTS - 1)
    return place - inside + sum(heights[i] * jnp.maximum(0, 1 - jnp.abs(inside - i)) for i in range(KNOTS))


def blur(image: jax.Array, sigma: jax.Array, largest_sigma: float) -> jax.Array:
    """Gaussian blur of y x with a traced sigma, pixels; the kernel is cut at 2.5 times the largest sigma."""
    radius = math.ceil(2.5 * largest_sigma)
    if radius == 0:
        return image
    offsets = jnp.arange(-radius, radius + 1)
    kernel = jnp.exp(-0.5 * jnp.square(offsets / jnp.maximum(sigma, 1e-3)))
    kernel = kernel / kernel.sum()
    for axis in (0, 1):
        padded = jnp.pad(image, [(radius, radius) if a == axis else (0, 0) for a in (0, 1)], mode="reflect")
        # Shifted sums, not a convolution: every image has its own kernel.
        size = image.shape[axis]
        image = sum(kernel[i] * jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(2 * radius + 1))
    return image
