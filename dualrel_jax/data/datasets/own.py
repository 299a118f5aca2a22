"""A person's own files: volumes, their labels on some or all slices, further volumes without labels."""

import contextlib
import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.constants import IGNORE
from dualrel_jax.data.datasets.geometry import check_shapes, differing_place
from dualrel_jax.data.datasets.label_index import (
    check_same_numbers,
    index_from_list,
    index_from_names,
    index_of_stack,
    is_labelled,
)
from dualrel_jax.data.datasets.labels import LabelRule, Source, check_values
from dualrel_jax.data.io.box_path import file_and_box
from dualrel_jax.data.io.points import draw_discs, read_points
from dualrel_jax.data.io.pyramid import FINEST, LevelChoice
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.data.io.voxel import Voxel, check_likely, is_voxel
from dualrel_jax.errors import InputError

UNKNOWN_RADIUS_PX = 3.0  # of the discs around points, where the pixel size is unknown


def read_own(config: ConfigDict) -> dict[str, Source]:
    """{"train": Source, "labelled2": Source, ..., "unlabelled1": Source, ...}.

    `data.image` and `data.label` may name several volumes, separated by commas. `data.labelled_slices` and
    `data.voxel_nm` then hold one entry for all, or one for each, separated by semicolons. Further entries of the latter
    are of `data.unlabelled`, whose files come first where they state a size.

    Raises:
      InputError: a path missing, or labels that do not fit their volume.
    """
    images, labels = (split_paths(config[key]) for key in ("image", "label"))
    if config.points:
        return {"train": _read_clicked(images, labels, config), **_read_unlabelled(config)}
    for key, paths in (("image", images), ("label", labels)):
        if not paths:
            raise InputError(f"data.{key} is empty; data.name=own needs the path of {_WHAT[key]}: set data.{key}.")
    if len(images) != len(labels):
        raise InputError(
            f"data.image names {len(images)} volumes, but data.label {len(labels)}; expected the labels of each, in "
            "the same order: volumes without labels go to data.unlabelled."
        )
    voxels = _voxel_sizes(config)
    listed = for_each(config.labelled_slices, len(images), "data.labelled_slices")
    sources = {}
    for i, (image, label, voxel_nm, zs) in enumerate(zip(images, labels, voxels, listed, strict=False), start=1):
        sources[f"labelled{i}" if i > 1 else "train"] = _read_labelled(image, label, voxel_nm, zs, config)
    return sources | _read_unlabelled(config)


def _read_unlabelled(config: ConfigDict) -> dict[str, Source]:
    sources, paths = {}, split_paths(config.unlabelled)
    voxels = _voxel_sizes(config)[len(split_paths(config.image)) :]
    for i, (path, voxel_nm) in enumerate(zip(paths, voxels, strict=True), start=1):
        volume = _open_unlabelled(path, voxel_nm, level_choice(config))
        sources[f"unlabelled{i}"] = Source(volume, tuple(range(len(volume))))
    return sources


def _voxel_sizes(config: ConfigDict) -> list[Voxel | None]:
    """Of each volume of `data.image`, then of each of `data.unlabelled`: its entry of `data.voxel_nm`, else the first.

    One entry is for all; several are for the volumes with labels, or for all in this order.
    """
    counts, entries = [len(split_paths(config[key])) for key in ("image", "unlabelled")], config.voxel_nm.count(";") + 1
    count = sum(counts) if entries == sum(counts) else counts[0]
    texts = for_each(config.voxel_nm, count, "data.voxel_nm")
    texts += texts[:1] * (sum(counts) - count)
    return [parse_voxel(text, "data.voxel_nm") for text in texts]


def _read_clicked(images: list[str], labels: list[str], config: ConfigDict) -> Source:
    """The volume with discs around the points of `data.points` as its labels, and nothing else labelled."""
    if len(images) != 1 or labels:
        raise InputError(
            f"data.points is {config.points}, with {len(images)} volumes and {len(labels)} label files; expected one "
            "volume in data.image, and data.label empty: points are its labels."
        )
    image = open_volume(images[0], _voxel_sizes(config)[0], choice=level_choice(config))
    points = read_points(config.points, image.shape)
    print(f"{points.describe()}.")
    pixel_nm = min(image.voxel_nm[1:]) if image.voxel_nm else config.point_radius_nm / UNKNOWN_RADIUS_PX
    radius_px = config.point_radius_nm / pixel_nm
    zs = sorted(set(points.zyx[:, 0].tolist()))

    def read(at: int, y: slice, x: slice) -> np.ndarray:
        return draw_discs(points, zs[at], image.shape[1:], radius_px, IGNORE)[y, x]

    shape = (len(zs), *image.shape[1:])
    label = Volume(points.path, shape, np.dtype(np.uint8), image.voxel_nm, "points", read)
    return Source(
        image, tuple(range(len(image))), label, LabelRule("instances", IGNORE, {z: i for i, z in enumerate(zs)})
    )


def _read_labelled(image_path: str, label_path: str, voxel_nm, listed: str, config: ConfigDict) -> Source:
    image, label = _open_pair(image_path, label_path, voxel_nm, listed, config)
    check_shapes(image, label)
    if listed:
        index = index_from_list(image, label, listed)
    elif len(label) == len(image):
        check_same_numbers(image, label, "data.labelled_slices")
        index = index_of_stack(label, config.ignore_value)
    else:
        index = index_from_names(image, label, "data.labelled_slices")
    rule = _rule(config, label, index)
    if not any((rule.decode(label[i]) == 1).any() for i in index.values()):
        ignored = config.ignore_value
        if rule.kind == "grey":
            raise InputError(
                f"{label.path} holds no value above 127, which data.label_kind=grey takes for mitochondria; leave "
                "data.label_kind at binary for masks of 0 and 1."
            )
        apart = f" apart from the ignored {ignored}; save mitochondria as 1, or" if ignored > 0 else ":"
        raise InputError(
            f"{label.path} holds no labelled slice with a mitochondrion; expected some pixels above 0{apart} check "
            "data.label and data.labelled_slices."
        )
    return Source(image, tuple(range(len(image))), label, rule)


def _open_pair(image_path: str, label_path: str, voxel_nm, listed: str, config: ConfigDict) -> tuple[Volume, Volume]:
    """Image and labels, of pyramids at one level: `auto` takes level 0 unless the labels have the image's levels.

    Slices and regions that the config names are counted in level 0, which is then read too.
    """
    choice = level_choice(config)
    if choice.level == "auto" and (listed or config.train_region or config.validation_region):
        choice = dataclasses.replace(choice, level="0")
    image = open_volume(image_path, voxel_nm, verbose=False, choice=choice)
    if image.level is not None and image.level.index:
        same = dataclasses.replace(choice, level=str(image.level.index))
        with contextlib.suppress(InputError):
            label = open_label(label_path, image, listed, verbose=False, choice=same)
            if label.shape == image.shape or choice.level != "auto":
                return open_volume(image_path, voxel_nm, choice=choice), open_label(
                    label_path, image, listed, choice=same
                )
        choice = dataclasses.replace(choice, level="0") if choice.level == "auto" else choice
    image = open_volume(image_path, voxel_nm, choice=choice)
    return image, open_label(label_path, image, listed)


def level_choice(config: ConfigDict) -> LevelChoice:
    """The level of pyramids that `config.data` asks for."""
    return LevelChoice(config.level, (config.pixel_nm,) * 2 if config.pixel_nm else None, key="data.level")


def read_test(config: ConfigDict) -> Source:
    """The labelled volume of `data.test_image` and `data.test_label`; empty label slices count as labelled.

    Of labels that are those of the training, empty slices are without a label there and here.

    Raises:
      InputError: a path missing, or labels that do not fit the volume.
    """
    for key in ("test_image", "test_label"):
        if not config[key]:
            raise InputError(
                f"data.{key} is empty; a test volume needs its labels, and labels their volume: set data.{key}=PATH."
            )
    config = _of_test_labels(config)
    image = open_volume(config.test_image, _test_voxel(config))
    label = open_label(config.test_label, image)
    check_shapes(image, label)
    if sentence := differing_place(image, label):
        print(f"look: {sentence}")
    whole = len(label) == len(image)
    if whole:
        check_same_numbers(image, label, None)
    if whole and label.path in split_paths(config.label):
        index = index_of_stack(label, config.ignore_value)
    elif whole:
        index = {z: z for z in range(len(image))}
        if empty := sum(not is_labelled(label[z], config.ignore_value) for z in index):
            print(
                f"{label.path}: {empty} of {len(label)} slices are empty and count as without mitochondria; where they "
                "are not labelled, give a folder with a file for each labelled slice."
            )
    else:
        index = index_from_names(image, label, None)
    try:
        rule = _rule(config, label, index)
    except InputError as error:
        text = str(error).replace("data.label_kind", "data.test_label_kind")
        raise InputError(text.replace("data.ignore_value", "data.test_ignore_value")) from error
    return Source(image, tuple(range(len(image))), label, rule)


def _test_voxel(config: ConfigDict) -> Voxel | None:
    """That of `data.test_voxel_nm`; without it, of a volume of the training or a box of it, the one it had there."""
    if config.test_voxel_nm:
        return parse_voxel(config.test_voxel_nm, "data.test_voxel_nm")
    files, file = [file_and_box(path)[0] for path in split_paths(config.image)], file_and_box(config.test_image)[0]
    return _voxel_sizes(config)[files.index(file)] if config.voxel_nm and file in files else None


def _of_test_labels(config: ConfigDict) -> ConfigDict:
    """`config.data` with the kind and the ignored value of the test labels as those of all labels."""
    values = {}
    if config.test_label_kind != "same":
        values["label_kind"] = config.test_label_kind
    if config.test_ignore_value != -2:
        values["ignore_value"] = config.test_ignore_value
    return config_lib.changed(config, values)


def open_label(
    path: str, image: Volume, listed: str = "", verbose: bool = True, choice: LevelChoice = FINEST
) -> Volume:
    """The labels of `image`: of each of its slices, or of those `listed` in data.labelled_slices."""
    counts = (len(image), listed.count(",") + 1)
    shapes = [(count, *image.shape[1:]) for count in counts]
    return open_volume(path, verbose=verbose, expected=shapes, choice=choice, labels=True)


# Fields of `config.data` with paths.
FILES = ("image", "label", "unlabelled", "test_image", "test_label", "test_mask", "points")


def named_files(data: Mapping[str, str]) -> list[str]:
    """The paths of all files that `config.data` names."""
    return [path for key in FILES for path in split_paths(data.get(key, ""))]


def split_paths(text: str) -> list[str]:
    """'a.tif, b.zarr[0:9,,]' -> ['a.tif', 'b.zarr[0:9,,]']; the commas of a path that exists stay."""
    if Path(text).exists():
        return [text] if text else []
    return [path.strip() for path in re.split(r",(?![^\[\]]*\])", text) if path.strip()]


def parse_voxel(text: str, key: str) -> Voxel | None:
    """'30,8,8' -> (30.0, 8.0, 8.0); '?,8,8' -> (nan, 8.0, 8.0); None for an empty text.

    Raises:
      InputError: not three numbers, or none that electron microscopy has.
    """
    if not text:
        return None
    try:
        sizes = tuple(math.nan if size.strip() == "?" else float(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not is_voxel(sizes):
        raise InputError(
            f"{key}={text} is not understood; expected the voxel size z,y,x in nm, such as 30,8,8, or ?,8,8 where z is "
            "unknown."
        )
    check_likely(sizes, f"{key}={text}", key)
    return sizes


def for_each(text: str, count: int, key: str) -> list[str]:
    """The entries of '3,40;5' for each of `count` volumes; a single entry is for all."""
    entries = [entry.strip() for entry in text.split(";")]
    if len(entries) not in (1, count):
        raise InputError(
            f"{key}={text} is not understood; expected one entry for all, or one for each volume of data.image "
            f"({count}), separated by semicolons."
        )
    return entries * (count // len(entries))


_WHAT = {"image": "your volume", "label": "its labels (a stack, or a folder of some slices)"}


def _rule(config: ConfigDict, label: Volume, index: dict[int, int]) -> LabelRule:
    if not index:
        raise InputError(f"{label.path} holds no labelled slice; label some slices of the volume, a handful is enough.")
    slices = (label[i] for i in index.values())
    names = [label.names[i] if label.names else f"slice {i}" for i in index.values()]
    foreground = check_values(slices, config.label_kind, config.ignore_value, label.path, names)
    return LabelRule(config.label_kind, config.ignore_value, index, foreground)


def _open_unlabelled(path: str, voxel_nm: Voxel | None, choice: LevelChoice) -> Volume:
    """A volume without labels; the voxel size of its file comes first, as it may be of another microscope."""
    stated = open_volume(path, verbose=False).voxel_nm
    return open_volume(path, voxel_nm if stated is None else None, choice=choice)
