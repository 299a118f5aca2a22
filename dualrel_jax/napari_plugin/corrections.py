"""A training from corrected slices: writes its files and makes its command line."""

import dataclasses
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax import starter
from dualrel_jax.constants import IGNORE
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.errors import InputError
from dualrel_jax.napari_plugin.layers import voxel_text

_MOST_BYTES = 1 << 30  # a larger volume is not copied whole for a training
_AROUND = 12  # slices on either side of a corrected one that are copied instead
_FEWER = 10  # a training from the weights of another needs a tenth of its steps
_KEPT = ("augment", "model", "train", "method")  # sections of the old config that the new training uses
_NO_FILE = ("array", "array in memory")  # formats of volumes that cannot be opened by their path
Labels = dict[int, np.ndarray]  # z -> uint8 y x in {0, 1, IGNORE}


def parse_slices(text: str, length: int) -> list[int]:
    """'12, 40' -> [12, 40]; InputError for anything but z values below `length`, or none."""
    words = text.replace(",", " ").split()
    if not words:
        raise InputError("No slice is corrected yet; paint in the mask, or add slices that are right as they are.")
    for word in words:
        if not word.isdecimal() or int(word) >= length:
            raise InputError(f"Corrected slices: {word!r} is not a slice; expected numbers from 0 to {length - 1}.")
    return sorted({int(word) for word in words})


def next_folder(run: Path, image: str | None) -> Path:
    """A folder beside `run` that does not exist yet: demo_corrected_1, demo_corrected_2, ...

    For the starter, which lies in the package, it is beside the file `image`, else in the current or the home folder.
    """
    base, parent, i = run.name.partition("_corrected_")[0], run.parent, 1
    if starter.is_it(run):
        places = [Path(image).absolute().parent] if image else []
        parent = next((place for place in (*places, Path.cwd()) if os.access(place, os.W_OK)), Path.home())
    while (folder := parent / f"{base}_corrected_{i}").exists():
        i += 1
    return folder


def default_steps(config: ConfigDict, continues: bool) -> int:
    """Steps of a training with the settings of an earlier one, of which it `continues` the weights or not.

    An earlier one that continued another itself took a tenth of the steps already.
    """
    from_nothing = config.train.steps * (_FEWER if config.train.init else 1)
    return max(1, from_nothing // _FEWER) if continues else from_nothing


def prepare(
    run: Path, new: Path, volume: Volume, labels: Labels, *, keep_old: bool, steps: int, continues: bool = True
) -> list[str]:
    """Writes the files of a training on `labels` of `volume` to `new`/corrections; -> the command that trains in `new`.

    The training has the method and the settings of the run in `run`, and `continues` its weights or starts from new
    ones. With `keep_old` it also uses the labels of that run, except for slices that have a new label. The image is not
    copied if it can be opened again; of one above 1 GiB that cannot, what is around the labels is copied.

    Raises:
        InputError: `run` holds no run, its data are absent, a voxel size is missing, or a file cannot be written.
    """
    config = config_lib.resolve(config_lib.load(run / "config.json"))
    folder, entries = new / "corrections", []
    for image, old in labelled_parts(run, config) if keep_old else ():
        if _same(image, volume):
            labels, volume = old | labels, dataclasses.replace(image, voxel_nm=volume.voxel_nm or image.voxel_nm)
            continue
        _check_voxels(image, volume)
        entries.append((_on_disk(image, folder / f"old_{len(entries)}.tif"), image, old))
    path, labels = _image_file(volume, labels, folder / "image.tif")
    entries.append((path, volume, labels))
    fields = {key: [] for key in ("image", "label", "labelled_slices", "voxel_nm")}
    for i, (path, image, known) in enumerate(entries):
        label = _write(known, sorted(known), image, folder / f"labels_{i}.tif")
        fields["image"].append(path)
        fields["label"].append(str(label))
        fields["labelled_slices"].append(",".join(str(z) for z in sorted(known)))
        fields["voxel_nm"].append(voxel_text(image.voxel_nm))
    if bad := [path for path in (*fields["image"], *fields["label"]) if "," in path]:
        raise InputError(f"{bad[0]} has a comma in its name, which separates volumes; choose a folder without one.")
    data = {key: (";" if key in ("labelled_slices", "voxel_nm") else ",").join(value) for key, value in fields.items()}
    data |= {"ignore_value": IGNORE, "validation_region": "none", "pixel_nm": config.data.pixel_nm}
    if keep_old:
        data["unlabelled"] = config.data.unlabelled
    data["upsample"] = config.data.upsample
    training = {"train.steps": steps, "train.init": str(run.absolute()) if continues else ""}
    if continues:
        training["train.second_stage_fraction"] = 0.0
    return [*_command(config, new, training), *(f"--config.data.{key}={value}" for key, value in data.items())]


def labelled_parts(run: Path, config: ConfigDict) -> Iterable[tuple[Volume, Labels]]:
    """The volumes of the training in `run`, each with the labels that were used."""
    from dualrel_jax.data.datasets.partition import Partition
    from dualrel_jax.data.datasets.registry import load_dataset

    used = Partition.load(run / "partition.json").labelled
    for part in load_dataset(config.data).train:
        labels = {z: part.whole_label_at(z) for name, z in used if name == part.name}
        if labels:
            yield part.image, labels


def _same(a: Volume, b: Volume) -> bool:
    """Whether both hold the same voxels, which are compared only where they do not come from one file."""
    if a.shape != b.shape:
        return False
    if a.path == b.path and {a.format, b.format}.isdisjoint(_NO_FILE):
        return True
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def _check_voxels(old: Volume, new: Volume) -> None:
    """InputError unless the voxel sizes of both volumes are known, or neither: a training has one pixel size."""
    if (old.voxel_nm is None) != (new.voxel_nm is None):
        unknown, known = (old, new) if old.voxel_nm is None else (new, old)
        raise InputError(
            f"The voxel size of {unknown.path} is not known, that of {known.path} is; fill in Voxel size as z,y,x in "
            "nm, or untick the labels of the run."
        )


def _on_disk(image: Volume, path: Path) -> str:
    """A path at which `image` can be opened again; a generated one, such as the phantom, is written to `path`."""
    try:
        open_volume(image.path, verbose=False)
        return image.path
    except InputError:
        return _write(image, range(len(image)), image, path)


def _image_file(volume: Volume, labels: Labels, path: Path) -> tuple[str, Labels]:
    """(path of the image, the labels by its slices); the image is written to `path` unless it is in a file already."""
    if volume.format not in _NO_FILE:
        return volume.path, labels
    zs = range(len(volume))
    if math.prod(volume.shape) * volume.dtype.itemsize > _MOST_BYTES:
        zs = [z for z in zs if any(abs(z - label) <= _AROUND for label in labels)]
    at = {z: i for i, z in enumerate(zs)}
    return _write(volume, zs, volume, path), {at[z]: label for z, label in labels.items()}


def _write(slices, zs: Iterable[int], image: Volume, path: Path) -> str:
    zs = list(zs)
    with open_writer(path, (len(zs), *image.shape[1:]), slices[zs[0]].dtype, image.voxel_nm) as writer:
        for i, z in enumerate(zs):
            writer.write(i, slices[z])
    return str(path.absolute())


def _command(config: ConfigDict, new: Path, training: dict[str, Any]) -> list[str]:
    """The training command, with the settings of `config` that differ from its preset as flags, and `training`."""
    changed = {key: value for key, value, _ in config_lib.changes(config) if key.partition(".")[0] in _KEPT}
    changed |= {"size": config.size} | training
    flags = [f"--config.{key}={tuple(v) if isinstance(v, list) else v}" for key, v in changed.items()]
    name = f"--config=configs/{config.method.name}.py:own,all"
    return [sys.executable, "-m", "dualrel_jax.main", name, f"--workdir={new.absolute()}", *flags]
