"""The tf.data pipeline: crops read from volumes of any size. Only this file and the TFDS builders use TensorFlow."""

import functools
import os
from collections.abc import Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.pipeline import augment, crops
from dualrel_jax.data.pipeline.augment import RawBatch
from dualrel_jax.data.pipeline.crops import SliceOf
from dualrel_jax.errors import InputError
from dualrel_jax.utils import sharding

WHOLE_PX = 1 << 24  # of a slice: at most so many pixels are decoded for the sake of a crop
_NO_POINTS = np.zeros((1, 2), np.int32)


class TfDataFeed:
    """Zips a stream of labelled and one of unlabelled crops. Example i of a stream depends on (seed, i) alone.

    A step takes examples step * batch to (step + 1) * batch - 1, each host its own share of them, so a restart and
    any number of hosts see the same crops.
    """

    def __init__(self, config: ConfigDict, labelled: list[SliceOf], unlabelled: list[SliceOf], mesh, start_step: int):
        self._mesh = mesh
        margin = augment.margin(config.augment, config.train.crop_px)
        reader = _Reader(config.data.cache_mib, labelled, unlabelled, margin, config.seed)
        seeds = np.random.SeedSequence(config.seed).generate_state(2, np.uint64)
        batches = config.train.batch_labelled, config.train.batch_unlabelled
        self._failures: list[InputError] = []  # the first of them is raised by the next batch
        streams = []
        for slices, seed, batch, with_label in zip((labelled, unlabelled), seeds, batches, (True, False), strict=True):
            if slices:
                cutter = _Cutter(reader, slices, with_label, config)
                streams.append(self._stream(cutter, int(seed), batch, start_step))
        self._batches = self._zip(streams, config.train.crop_px + 2 * margin)

    def __next__(self) -> RawBatch:
        return sharding.from_host_local(next(self._batches), self._mesh)

    def crops(self, data: RawBatch, key: jax.Array) -> RawBatch:
        """The crops are in the batch already; `key` is the resident pipeline's."""
        return data

    def _stream(self, cutter: "_Cutter", seed: int, batch: int, start_step: int):
        """A tf.data stream of this host's batches: local b, channels, y, x uint8."""
        tf = _tensorflow()
        hosts, host = jax.process_count(), jax.process_index()
        local = batch // hosts

        def example(i):
            u = np.random.Generator(np.random.Philox(key=seed, counter=int(i))).random(crops.DRAWS, np.float32)
            try:
                return cutter(u)
            except InputError as error:  # raised here, it would reach the user as TensorFlow's, below two tracebacks
                self._failures.append(error)
                return np.zeros(cutter.shape, np.uint8)

        def load(n):
            # n counts this host's examples; i is the example's number among those of all hosts.
            i = (n // local) * batch + host * local + n % local
            return tf.ensure_shape(tf.numpy_function(example, [i], tf.uint8), cutter.shape)

        counter = tf.data.Dataset.counter(start=np.int64(start_step * local), dtype=tf.int64)
        examples = counter.map(load, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
        return examples.batch(local, drop_remainder=True)

    def _zip(self, streams: list, side: int) -> Iterator[RawBatch]:
        """Batches of crops of `side` pixels, margin included; without unlabelled ones where there is one stream."""
        zipped = _tensorflow().data.Dataset.zip(tuple(streams)).prefetch(4).as_numpy_iterator()
        nothing = np.zeros((0, side, side), np.uint8)
        for labelled, unlabelled in (batch if len(batch) == 2 else (*batch, None) for batch in zipped):
            if self._failures:
                raise self._failures[0]
            yield RawBatch(labelled[:, 0], labelled[:, 1], nothing if unlabelled is None else unlabelled[:, 0])


class _Reader:
    """Decoded slices with the mirrored margin of crops, the least recently used forgotten first.

    Of unlabelled slices above `WHOLE_PX` pixels only the crops are read, so padding is not looked for.
    """

    def __init__(self, cache_mib: int, labelled: list[SliceOf], unlabelled: list[SliceOf], margin: int, seed: int):
        self.margin = margin
        slices = labelled + [slice_of for slice_of in unlabelled if not _is_large(slice_of.part)]
        largest = max((int(np.prod(np.add(part.shape_at_training, 2 * margin))) for part, _ in slices), default=1)
        cached = functools.lru_cache(maxsize=max(1, cache_mib * 2**20 // largest // 2))
        parts = {part.name: part for part, _ in labelled + unlabelled}
        self.image = cached(lambda name, z: crops.mirror(parts[name].image_at(z), margin))
        self.label = cached(lambda name, z: crops.mirror(parts[name].label_at(z), margin))
        inner_image = lambda name, z: self._inner(self.image(name, z))  # noqa: E731
        inner_label = lambda name, z: self._inner(self.label(name, z))  # noqa: E731
        self.tissue = cached(lambda name, z: crops.tissue_box(inner_image(name, z)))
        self.known = cached(lambda name, z: crops.tissue_box(inner_image(name, z), inner_label(name, z)))
        self.points = cached(lambda name, z: crops.foreground_points(inner_label(name, z), seed))

    def unlabelled_crop(self, part: Part, z: int, corner: tuple[int, int], side: int) -> np.ndarray:
        """Side x side pixels of an image from a corner (y, x) of the slice with its margin on."""
        if _is_large(part):
            read = functools.partial(part.image_window, z)
            return crops.mirrored_window(read, part.shape_at_training, corner, side, self.margin)
        y, x = corner
        return self.image(part.name, z)[y : y + side, x : x + side]

    def _inner(self, mirrored: np.ndarray) -> np.ndarray:
        return mirrored[self.margin : mirrored.shape[0] - self.margin, self.margin : mirrored.shape[1] - self.margin]


def _is_large(part: Part) -> bool:
    return np.prod(part.view.shape[1:], dtype=float) > WHOLE_PX


class _Cutter:
    """From its uniform numbers to an example."""

    def __init__(self, reader: _Reader, slices: list[SliceOf], with_label: bool, config: ConfigDict):
        self._reader, self._slices, self._with_label = reader, slices, with_label
        self._ends = crops.slice_ends(slices, volumes_equal=not with_label)
        self._crop_px = config.train.crop_px
        self._foreground_crop_fraction = config.data.foreground_crop_fraction if with_label else 0.0
        side = self._crop_px + 2 * reader.margin
        self.shape = (1 + with_label, side, side)

    def __call__(self, u: np.ndarray) -> np.ndarray:
        """A crop with its margin, `channels y x`: the image and, for labelled slices, the label."""
        part, z = self._slices[crops.pick_slice(u[0], self._ends, np)]
        y, x = crops.place_crop(
            u[1:],
            self._content(part, z),
            self._crop_px,
            foreground_crop_fraction=self._foreground_crop_fraction,
            xp=np,
        )
        side = self.shape[1]
        if not self._with_label:
            return self._reader.unlabelled_crop(part, z, (y, x), side)[None]
        window = np.s_[y : y + side, x : x + side]
        return np.stack([self._reader.image(part.name, z)[window], self._reader.label(part.name, z)[window]])

    def _content(self, part: Part, z: int) -> crops.Content:
        size = np.array(part.shape_at_training, np.int32)
        if not self._with_label:
            box = crops.whole_box(size) if _is_large(part) else self._reader.tissue(part.name, z)
            return crops.Content(size, box, _NO_POINTS, 0)
        points = self._reader.points(part.name, z) if self._foreground_crop_fraction > 0 else _NO_POINTS[:0]
        return crops.Content(size, self._reader.known(part.name, z), points if len(points) else _NO_POINTS, len(points))


@functools.cache
def _tensorflow():
    """TensorFlow, kept off the accelerators; it costs seconds and 600 MiB, so it is imported only here."""
    for name, value in {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}.items():  # else it logs at import
        os.environ.setdefault(name, value)
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
