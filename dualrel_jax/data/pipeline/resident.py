"""The resident pipeline: the training slices live on the device as uint8 and the step cuts its own crops."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.pipeline import augment, crops
from dualrel_jax.data.pipeline.augment import RawBatch
from dualrel_jax.data.pipeline.crops import SliceOf
from dualrel_jax.utils import sharding


class Slices(NamedTuple):
    """Slices on the device with a mirrored margin, padded to a common size."""

    images: jax.Array  # n y x uint8
    ends: jax.Array  # n float32, see crops.slice_ends
    sizes: jax.Array  # n 2 int32, size of each slice without its margin
    labels: jax.Array  # n y x uint8; n 0 0 where there are none
    known: jax.Array  # n 2 2 int32, see crops.tissue_box
    points: jax.Array  # n POINTS 2 int32, mitochondrion pixels; n 1 2 of slices without labels
    num_points: jax.Array  # n int32


def size_mib(config: ConfigDict, labelled: list[SliceOf], unlabelled: list[SliceOf]) -> float:
    """Memory the resident pipeline needs on every device, margins and padding included, MiB."""
    margin = augment.margin(config.augment, config.train.crop_px)

    def padded(slices: list[SliceOf]) -> float:
        return len(slices) * np.prod(_sizes(slices).max(axis=0, initial=0) + 2 * margin, dtype=float)

    return (2 * padded(labelled) + padded(unlabelled)) / 2**20


class ResidentFeed:
    """Holds the slices on the devices of `mesh`, whole on each; nothing is read while training."""

    def __init__(self, config: ConfigDict, labelled: list[SliceOf], unlabelled: list[SliceOf], mesh):
        self._crop_px = config.train.crop_px
        self._margin = augment.margin(config.augment, config.train.crop_px)
        self._foreground_crop_fraction = config.data.foreground_crop_fraction
        self._batch = config.train.batch_labelled, config.train.batch_unlabelled if unlabelled else 0
        self._mesh = mesh
        slices = _load(labelled, self._margin, True, config.seed), _load(unlabelled, self._margin, False, seed=0)
        self._slices = sharding.replicate(slices, mesh)

    def __next__(self) -> tuple[Slices, Slices]:
        return self._slices

    def crops(self, data: tuple[Slices, Slices], key: jax.Array) -> RawBatch:
        """This step's crops, inside the jitted step: a function of `key` alone."""
        labelled_key, unlabelled_key = jax.random.split(key)
        image, label = self._cut(data[0], labelled_key, self._batch[0], self._foreground_crop_fraction)
        unlabelled, _ = self._cut(data[1], unlabelled_key, self._batch[1], 0.0)
        return RawBatch(image, label, unlabelled)

    def _cut(self, slices: Slices, key, batch: int, foreground_crop_fraction: float):
        side = self._crop_px + 2 * self._margin
        if batch == 0:
            return jnp.zeros((0, side, side), jnp.uint8), None

        def cut(u):
            i = crops.pick_slice(u[0], slices.ends, jnp)
            content = crops.Content(slices.sizes[i], slices.known[i], slices.points[i], slices.num_points[i])
            y, x = crops.place_crop(
                u[1:], content, self._crop_px, foreground_crop_fraction=foreground_crop_fraction, xp=jnp
            )
            window = lambda volume: jax.lax.dynamic_slice(volume, (i, y, x), (1, side, side))[0]  # noqa: E731
            return window(slices.images), window(slices.labels) if slices.labels.size else None

        draws = jax.random.uniform(key, (batch, crops.DRAWS))
        return jax.vmap(cut)(sharding.shard_batch(draws, self._mesh))


def _sizes(slices: list[SliceOf]) -> np.ndarray:
    """(y, x) of each slice: n 2 int32."""
    return np.array([part.shape_at_training for part, _ in slices], np.int32).reshape(-1, 2)


def _load(slices: list[SliceOf], margin: int, with_labels: bool, seed: int) -> Slices:
    sizes = _sizes(slices)
    height, width = sizes.max(axis=0, initial=0) + 2 * margin
    ends = crops.slice_ends(slices, volumes_equal=not with_labels)
    images = np.zeros((len(slices), height, width), np.uint8)
    labels = np.zeros_like(images) if with_labels else np.zeros((len(slices), 0, 0), np.uint8)
    known = np.zeros((len(slices), 2, 2), np.int32)
    points = np.zeros((len(slices), crops.POINTS if with_labels else 1, 2), np.int32)
    num_points = np.zeros(len(slices), np.int32)
    for i, (part, z) in enumerate(slices):
        window = np.s_[i, : sizes[i, 0] + 2 * margin, : sizes[i, 1] + 2 * margin]
        image, label = part.image_at(z), part.label_at(z) if with_labels else None
        images[window], known[i] = crops.mirror(image, margin), crops.tissue_box(image, label)
        if with_labels:
            labels[window] = crops.mirror(label, margin)
            foreground = crops.foreground_points(label, seed)
            points[i, : len(foreground)], num_points[i] = foreground, len(foreground)
    return Slices(images, ends, sizes, labels, known, points, num_points)
