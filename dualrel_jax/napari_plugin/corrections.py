"""A training from corrected slices: writes its files and makes its command line."""

import dataclasses
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.constants import IGNORE
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.errors import InputError

_KEPT = ("augment", "model", "train", "method")  # sections of the old config that the new training uses
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


def next_folder(run: Path) -> Path:
    """A folder beside `run` that does not exist yet: demo_corrected_1, demo_corrected_2, ..."""
    base, i = run.name.partition("_corrected_")[0], 1
    while (folder := run.with_name(f"{base}_corrected_{i}")).exists():
        i += 1
    return folder


def prepare(run: Path, new: Path, volume: Volume, labels: Labels, *, keep_old: bool, steps: int) -> list[str]:
    """Writes the files of a training on `labels` of `volume` to `new`/corrections; -> the command that trains in `new`.

    The training has the method and the settings of the run in `run`, but starts from new weights. With `keep_old` it
    also uses the labels of that run, except for slices that have a new label.

    Raises:
        InputError: `run` holds no run, its data are absent, a voxel size is missing, or a file cannot be written.
    """
    config = config_lib.resolve(config_lib.load(run / "config.json"))
    folder, entries = new / "corrections", []
    for image, old in labelled_parts(run, config) if keep_old else ():
        if _same(image, volume):
            labels, volume = old | labels, dataclasses.replace(volume, voxel_nm=volume.voxel_nm or image.voxel_nm)
            continue
        _check_voxels(image, volume)
        entries.append((_on_disk(image, folder / f"old_{len(entries)}.tif"), image, old))
    entries.append((_write(volume, range(len(volume)), volume, folder / "image.tif"), volume, labels))
    fields = {key: [] for key in ("image", "label", "labelled_slices", "voxel_nm")}
    for i, (path, image, known) in enumerate(entries):
        label = _write(known, sorted(known), image, folder / f"labels_{i}.tif")
        sizes = image.voxel_nm or (np.nan,)
        fields["image"].append(path)
        fields["label"].append(str(label))
        fields["labelled_slices"].append(",".join(str(z) for z in sorted(known)))
        fields["voxel_nm"].append("" if np.isnan(sizes).any() else ",".join(f"{size:.6g}" for size in sizes))
    if bad := [path for path in (*fields["image"], *fields["label"]) if "," in path]:
        raise InputError(f"{bad[0]} has a comma in its name, which separates volumes; choose a folder without one.")
    data = {key: (";" if key in ("labelled_slices", "voxel_nm") else ",").join(value) for key, value in fields.items()}
    data |= {"ignore_value": IGNORE, "validation_region": "none", "pixel_nm": config.data.pixel_nm}
    if keep_old:
        data["unlabelled"] = config.data.unlabelled
    return [*_command(config, new, steps), *(f"--config.data.{key}={value}" for key, value in data.items())]


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
    return a.shape == b.shape and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


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


def _write(slices, zs: Iterable[int], image: Volume, path: Path) -> str:
    zs = list(zs)
    with open_writer(path, (len(zs), *image.shape[1:]), slices[zs[0]].dtype, image.voxel_nm) as writer:
        for i, z in enumerate(zs):
            writer.write(i, slices[z])
    return str(path.absolute())


def _command(config: ConfigDict, new: Path, steps: int) -> list[str]:
    """The training command, with the settings of `config` that differ from its preset as flags."""
    changed = {key: value for key, value, _ in config_lib.changes(config) if key.partition(".")[0] in _KEPT}
    changed |= {"size": config.size, "train.steps": steps}
    flags = [f"--config.{key}={tuple(v) if isinstance(v, list) else v}" for key, v in changed.items()]
    name = f"--config=configs/{config.method.name}.py:own,all"
    return [sys.executable, "-m", "dualrel_jax.main", name, f"--workdir={new.absolute()}", *flags]
