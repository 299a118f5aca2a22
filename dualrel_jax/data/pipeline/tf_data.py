"""The tf.data pipeline: crops read from volumes of any size. Only this file and the TFDS builders use TensorFlow."""

import functools
from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.pipeline import augment
from dualrel_jax.data.pipeline import crops as crops_lib
from dualrel_jax.data.pipeline.augment import RawBatch
from dualrel_jax.data.pipeline.crops import SliceOf
from dualrel_jax.errors import InputError
from dualrel_jax.utils import sharding


class PatchFeed:
    """Zips a stream of labelled and one of unlabelled crops. Example i of a stream depends on (seed, i) alone.

    A step takes examples step * batch to (step + 1) * batch - 1, each host its own share of them, so a restart and
    any number of hosts see the same crops.
    """

    def __init__(self, config: ConfigDict, labelled: list[SliceOf], unlabelled: list[SliceOf], mesh, start_step: int):
        self._mesh = mesh
        patch, margin = config.train.crop_px, augment.margin(config.augment, config.train.crop_px)
        crop = patch + 2 * margin
        read = _Reader(config.data.cache_mib, labelled + unlabelled, margin)
        batch_unlabelled = config.train.batch_unlabelled if unlabelled else 0
        share = config.data.foreground_crop_fraction
        ends = crops_lib.slice_ends(labelled, volumes_equal=False), crops_lib.slice_ends(unlabelled, volumes_equal=True)
        cut_labelled = functools.partial(_cut, read, labelled, ends[0], patch, share, True)
        cut_unlabelled = functools.partial(_cut, read, unlabelled, ends[1], patch, 0.0, False)
        seeds = np.random.SeedSequence(config.seed).generate_state(2, np.uint64)
        failures: list[InputError] = []
        streams = [_stream(cut_labelled, failures, int(seeds[0]), config.train.batch_labelled, crop, 2, start_step)]
        if batch_unlabelled:
            streams.append(_stream(cut_unlabelled, failures, int(seeds[1]), batch_unlabelled, crop, 1, start_step))
        self._batches = _zip(streams, failures, crop)

    def __next__(self) -> RawBatch:
        return sharding.from_host_local(next(self._batches), self._mesh)

    def crops(self, data: RawBatch, key: jax.Array) -> RawBatch:
        """The crops are in the batch already; `key` is the resident pipeline's."""
        return data


class _Reader:
    """Decoded slices with the mirrored margin of crops, the least recently used forgotten first."""

    def __init__(self, cache_mib: int, slices: list[SliceOf], margin: int):
        self.margin = margin
        largest = max(int(np.prod(np.add(part.shape_at_training, 2 * margin))) for part, _ in slices)
        cached = functools.lru_cache(maxsize=max(1, cache_mib * 2**20 // largest // 2))
        parts = {part.name: part for part, _ in slices}
        self.image = cached(lambda name, z: crops_lib.mirror(parts[name].image_at(z), margin))
        self.label = cached(lambda name, z: crops_lib.mirror(parts[name].label_at(z), margin))
        self.known = cached(lambda name, z: crops_lib.known_box(self._inner_label(name, z)))
        self.points = cached(lambda name, z: crops_lib.foreground_points(self._inner_label(name, z), z))

    def _inner_label(self, name: str, z: int) -> np.ndarray:
        label = self.label(name, z)
        return label[self.margin : label.shape[0] - self.margin, self.margin : label.shape[1] - self.margin]


def _cut(
    read: _Reader, slices: list[SliceOf], ends: np.ndarray, patch: int, share: float, with_label: bool, u: np.ndarray
) -> np.ndarray:
    """Example from its uniform numbers, a patch with its margin: channels y x, image and for labelled crops label."""
    part, z = slices[crops_lib.pick_slice(u[0], ends, np)]
    points = read.points(part.name, z) if with_label and share > 0 else np.zeros((0, 2), np.int32)
    size = np.array(part.shape_at_training, np.int32)
    padded = points if len(points) else np.zeros((1, 2), np.int32)
    known = read.known(part.name, z) if with_label else crops_lib.whole_box(size)
    y, x = crops_lib.place_patch(u[1:], size, patch, known, padded, len(points), share, np)
    crop = patch + 2 * read.margin
    window = np.s_[y : y + crop, x : x + crop]
    channels = [read.image(part.name, z)[window]]
    if with_label:
        channels.append(read.label(part.name, z)[window])
    return np.stack(channels)


def _stream(cut, failures: list[InputError], seed: int, batch: int, crop: int, channels: int, start_step: int):
    """A tf.data stream of this host's batches: local b, channels, y, x uint8."""
    tf = _tensorflow()
    hosts, host = jax.process_count(), jax.process_index()
    local = batch // hosts

    def example(i):
        u = np.random.Generator(np.random.Philox(key=seed, counter=int(i))).random(crops_lib.DRAWS, np.float32)
        try:
            return cut(u)
        except InputError as error:  # raised here, it would reach the user as TensorFlow's, below two tracebacks
            failures.append(error)
            return np.zeros((channels, crop, crop), np.uint8)

    def load(n):
        # n counts this host's examples; i is the example's number among those of all hosts.
        i = (n // local) * batch + host * local + n % local
        crops = tf.numpy_function(example, [i], tf.uint8)
        return tf.ensure_shape(crops, (channels, crop, crop))

    counter = tf.data.Dataset.counter(start=np.int64(start_step * local), dtype=tf.int64)
    return counter.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True).batch(local, drop_remainder=True)


def _zip(streams: list, failures: list[InputError], crop: int) -> Iterator[RawBatch]:
    tf = _tensorflow()
    zipped = tf.data.Dataset.zip(tuple(streams)).prefetch(4).as_numpy_iterator()
    nothing = np.zeros((0, crop, crop), np.uint8)
    for labelled, unlabelled in (batch if len(batch) == 2 else (*batch, None) for batch in zipped):
        if failures:
            raise failures[0]
        yield RawBatch(labelled[:, 0], labelled[:, 1], nothing if unlabelled is None else unlabelled[:, 0])


@functools.cache
def _tensorflow():
    """TensorFlow, kept off the accelerators; it costs seconds and 600 MiB, so it is imported only here."""
    try:
        import tensorflow as tf
    except ImportError as error:
        raise InputError(
            "The tf.data pipeline needs TensorFlow, which is not installed; install `tensorflow-cpu`, or keep the "
            "volume on the device with --config.data.pipeline=resident."
        ) from error
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)
    return tf
