"""Reads a data set that `tfds build` has made, slice by slice where its file format allows it."""

from collections.abc import Sequence

import numpy as np

from dualrel_jax.constants import IGNORE
from dualrel_jax.data.datasets.labels import LabelRule, Source
from dualrel_jax.data.datasets.public import LAYOUTS
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.errors import InputError


def read_prepared(name: str, tfds_dir: str = "") -> dict[str, Source]:
    """The splits of public data set `name` as `read_layout` gives them; z counts from 0 within each split.

    Raises:
      InputError: TFDS is not installed, or the data set has not been built.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise InputError(
            "data.source=tfds needs tensorflow-datasets, which is not installed; install it, or use data.source=files."
        ) from error
    try:
        builder = tfds.builder(name, data_dir=tfds_dir or None)
    except tfds.core.DatasetNotFoundError:
        builder = None
    if builder is None or not builder.info.splits:
        raise InputError(
            f"data.source=tfds finds no {name} in {tfds_dir or 'the default folder of TFDS'}; make it with `python -m "
            f"dualrel_jax.data.datasets.tfds {name} --manual_dir=data --data_dir=FOLDER` and set data.tfds_dir=FOLDER."
        )
    return {split: _read_split(builder, split) for split in builder.info.splits}


def _read_split(builder, split: str) -> Source:
    image = _volume(builder, split, "image")
    zs = tuple(range(len(image)))
    labelled = [z for z, example in enumerate(_examples(builder, split, "has_label")) if example["has_label"]]
    if not labelled:
        return Source(image, zs)
    label = _volume(builder, split, "label")
    return Source(image, zs, label, LabelRule("instances", IGNORE, {z: z for z in labelled}))


def _volume(builder, split: str, feature: str) -> Volume:
    """One feature of all examples of a split, as a volume z y x uint8."""
    name, voxel_nm = f"tfds:{builder.name}/{split}/{feature}", LAYOUTS[builder.name].voxel_nm
    examples = _examples(builder, split, feature)
    if isinstance(examples, list):
        volume = Volume.from_array(np.stack([example[feature][..., 0] for example in examples]), voxel_nm, name)
    else:
        shape = (len(examples), *examples[0][feature].shape[:2])
        read = lambda z, y, x: examples[z][feature][y, x, 0]  # noqa: E731
        volume = Volume(name, shape, np.dtype(np.uint8), voxel_nm, "TFDS data source", read)
    print(volume.describe())
    return volume


def _examples(builder, split: str, feature: str) -> Sequence[dict]:
    """The examples of a split, of whose images only `feature` is decoded; a list where they cannot be read singly."""
    import tensorflow_datasets as tfds

    decoders = {image: tfds.decode.SkipDecoding() for image in ("image", "label") if image != feature}
    try:
        return builder.as_data_source(split, decoders=decoders)
    except NotImplementedError:  # tfrecord, which is read from start to end only
        import tensorflow as tf

        for kind in ("GPU", "TPU"):  # those are for JAX
            tf.config.set_visible_devices([], kind)
        examples = builder.as_dataset(split=split, decoders=decoders).as_numpy_iterator()
        return [{feature: example[feature]} for example in examples]
