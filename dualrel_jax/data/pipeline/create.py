"""Chooses the pipeline that feeds the training: resident where the slices fit on the device, tf.data otherwise."""

from jax.sharding import Mesh
from ml_collections import ConfigDict

from dualrel_jax.config.rules import side_multiple
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import Dataset
from dualrel_jax.data.pipeline import crops, resident
from dualrel_jax.errors import InputError


def create_feed(
    config: ConfigDict, dataset: Dataset, partition: Partition, *, read_unlabelled: bool, mesh: Mesh, start_step: int
):
    """A feed: `next(feed)` is what the step takes, `feed.crops(that, key)` its RawBatch inside the step.

    The choice counts the unlabelled slices even for a method that reads none, so that all methods see the same crops.
    """
    labelled = crops.resolve(dataset.train, partition.labelled)
    unlabelled = crops.resolve(dataset.train, partition.unlabelled)
    crops.check_fits(labelled + unlabelled, config.train.crop_px, side_multiple(config.model))
    needed_mib = resident.size_mib(config, labelled, unlabelled)
    if not read_unlabelled:
        unlabelled = []
    elif not unlabelled:
        raise InputError(
            f"config.data.partition_file={config.data.partition_file} names no unlabelled slice, which this method "
            "needs; add some, or train configs/supervised.py."
        )
    if choose_pipeline(config.data, needed_mib) == "resident":
        print(f"Input: {resident.size_mib(config, labelled, unlabelled):.0f} MiB of slices kept on the device.")
        return resident.ResidentFeed(config, labelled, unlabelled, mesh)
    if config.train.steps_per_call > 1:
        raise InputError(
            f"config.train.steps_per_call is {config.train.steps_per_call}, but the slices ({needed_mib:.0f} MiB) are "
            "read while training; expected 1, or slices kept on the device: --config.data.pipeline=resident."
        )
    from dualrel_jax.data.pipeline.tf_data import TfDataFeed

    print("Input: crops read from the volumes by tf.data.")
    return TfDataFeed(config, labelled, unlabelled, mesh, start_step)


def choose_pipeline(data: ConfigDict, needed_mib: float) -> str:
    """resident or tf, for slices of so many MiB."""
    if data.pipeline == "auto":
        return "resident" if needed_mib <= data.resident_limit_mib else "tf"
    return data.pipeline
