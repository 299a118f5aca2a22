"""The truth that instances are scored against: one label image for each slice of the probability."""

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.datasets.geometry import differing_place
from dualrel_jax.data.datasets.labels import check_values
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.errors import InputError
from dualrel_jax.metrics.segmentation import above
from dualrel_jax.utils.ranges import evenly_spaced
from dualrel_jax.utils.text import format_shape

LABEL_KINDS = ("binary", "instances")
_CHECKED = 24  # slices of the truth that are looked at
_AS_DENSE = 0.5  # of the foreground of all slices: that much predicted in empty slices is more than a few errors
_WHOLE = (
    "the truth must be whole, one label image for each slice: predict the labelled part alone "
    "(dualrel predict --region), or score single slices (dualrel evaluate)"
)
_REMEDIES = {
    "instances.label": _WHOLE,
    "instances.image": "name what was segmented, with its level and box where these were chosen, such as "
    "em.zarr:1[0:100,,0:512]",
}


def check_whole(truth: Volume, probability: Volume, threshold: float) -> str:
    """A sentence where slices of `truth` are empty in which much is predicted; else an empty text."""
    zs = evenly_spaced(range(len(truth)), _CHECKED)
    found = {z: above(probability[z], threshold).mean() for z in zs}
    empty = [found[z] for z in zs if not truth[z].any()]
    if not empty or np.mean(empty) <= _AS_DENSE * np.mean(list(found.values())):
        return ""
    return (
        f"look: {len(empty)} of {len(zs)} slices looked at of {truth.path} are empty and count as without "
        f"mitochondria, but {np.mean(empty):.1%} of their voxels are predicted: if they are not labelled, these scores "
        f"mean nothing; {_WHOLE}."
    )


def open_like(probability: Volume, path: str, key: str, labels: bool = False) -> Volume:
    """The volume at `path`, which the field `key` names; InputError unless it has the shape of the probability."""
    volume = open_volume(path, probability.voxel_nm, labels=labels)
    if volume.shape != probability.shape:
        raise InputError(
            f"{key}={path} has {format_shape(volume.shape)} voxels (z y x), but {probability.path} has "
            f"{format_shape(probability.shape)}; expected the same: {_REMEDIES[key]}."
        )
    if sentence := differing_place(probability, volume):
        print(f"look: {sentence}")
    return volume


def open_truth(probability: Volume, settings: ConfigDict) -> Volume:
    """The truth of `config.instances.label`; InputError unless its shape and its values can be compared."""
    if settings.label_kind not in LABEL_KINDS:
        raise InputError(f"instances.label_kind={settings.label_kind}; expected one of {', '.join(LABEL_KINDS)}.")
    label = open_like(probability, settings.label, "instances.label", labels=True)
    sample = (label[z] for z in evenly_spaced(range(len(label)), _CHECKED))
    check_values(sample, "instances", -1, label.path)  # above 0 is mitochondrion, whatever the kind
    if settings.label_kind == "instances" and label.dtype.kind not in "iu":
        raise InputError(
            f"{label.path} holds values of type {label.dtype}; expected whole numbers: one per instance, 0 for "
            "background."
        )
    if settings.label_kind == "instances" and label.dtype == np.uint64:
        largest = max(label[z].max() for z in range(len(label)))
        if largest > np.iinfo(np.int64).max:
            raise InputError(
                f"{label.path} holds the number {largest}, above 2^63; expected smaller ones: renumber the instances, "
                "and save what is no instance as 0."
            )
    return label
