"""The work folder of a training: claiming it, and the files that describe the training in it."""

import contextlib
import dataclasses
import importlib.metadata
import json
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.data.datasets.appearance import appearances
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import Dataset
from dualrel_jax.data.io.fingerprint import checksum
from dualrel_jax.data.io.remote import is_remote
from dualrel_jax.errors import InputError
from dualrel_jax.utils import sharding
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import read_json, without_nan
from dualrel_jax.utils.text import quoted

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def claim_workdir(config: ConfigDict, workdir: Path) -> None:
    """Claims `workdir` for this config; InputError if it holds the run of another."""
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / "config.json"
    if path.exists():
        different = config_lib.difference(config_lib.load(path), config)
        if different:
            raise InputError(
                f"{workdir} holds a run with another config ({different}); choose another --workdir, or repeat that "
                "run's config to continue it."
            )
    elif sharding.is_first_host():
        config_lib.save(config, path)


def describe_run(
    workdir: Path, dataset: Dataset, partition: Partition, mesh: jax.sharding.Mesh, *, init: dict | None = None
) -> None:
    """Writes partition.json and run.json on the first host.

    run.json: pixel size, versions, devices, revision, the folder that relative paths of the config begin in, what the
    labelled volumes look like, checksums of the labelled slices, and `init`, where the first weights are from, which a
    continued training keeps.

    InputError if the run was started on other slices, or on other images or labels of them.
    """
    path = workdir / "partition.json"
    if path.exists() and (different := Partition.load(path).difference(partition)):
        raise InputError(
            f"{workdir} holds a run on other slices ({different}); choose another --workdir to train on these, or "
            f"--config.data.partition_file={quoted(path)} to continue on those."
        )
    checksums = slice_checksums(dataset, partition)
    _check_unchanged(workdir, checksums, dataset)
    if not sharding.is_first_host():
        return
    partition.save(path)
    description = {
        "pixel_nm": dataset.train[0].pixel_nm,
        "devices": [str(device) for device in mesh.devices.flat],
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "git_revision": _git_revision(),
        "folder": str(Path.cwd()),
        "labelled_volumes": [dataclasses.asdict(seen) for seen in appearances(dataset, partition)],
        "slice_checksums": checksums,
    }
    init = init or _earlier_init(workdir / "run.json")
    description |= {"init": init} if init else {}
    write_text(workdir / "run.json", json.dumps(without_nan(description), indent=2) + "\n")


def slice_checksums(dataset: Dataset, partition: Partition) -> dict[str, dict[str, list[int]]]:
    """CRC-32 of each labelled slice's image and of its label: {name of the part: {z: [image, label]}}."""
    parts, checksums = {part.name: part for part in dataset.train}, {}
    for name, z in partition.labelled:
        arrays = parts[name].view[z], parts[name].native_label_at(z)
        checksums.setdefault(name, {})[str(z)] = [checksum(array) for array in arrays]
    return checksums


def _check_unchanged(workdir: Path, checksums: Mapping[str, Mapping[str, list[int]]], dataset: Dataset) -> None:
    """InputError if images or labels differ from those that the run in `workdir` began with; older runs do not say."""
    path = workdir / "run.json"
    if not path.exists():
        return
    earlier = read_json(path, {}, "delete it; the training writes it again").get("slice_checksums", {})
    parts = {part.name: part for part in dataset.train}
    for name, of_slices in checksums.items():
        before = [earlier.get(name, {}).get(z, now) for z, now in of_slices.items()]
        for i, (kind, volume) in enumerate([("image", parts[name].image), ("labels", parts[name].label)]):
            changed = [z for (z, now), then in zip(of_slices.items(), before, strict=True) if then[i] != now[i]]
            if changed:
                raise InputError(
                    f"{workdir} holds a run that began with other data ({volume.path}: {_slices(changed)} of the "
                    f"{kind} changed since); train in a new folder to learn from these, faster with --init "
                    f"{quoted(workdir)}, or put the earlier files back to continue."
                )


def _slices(zs: list[str]) -> str:
    few = ", ".join(zs[:5]) + (f" and {len(zs) - 5} more" if len(zs) > 5 else "")
    return f"slice {few}" if len(zs) == 1 else f"slices {few}"


def path_of_training(path: str, folder: str | None) -> str:
    """A path of the config, which a training began in `folder`, as another folder sees it.

    One that does not exist there any more, as after a move, stays as it is.
    """
    if not folder or is_remote(path) or Path(folder) == Path.cwd():
        return path
    file = Path(folder) / re.split(r"[\[:]", path)[0]  # without a box or the name of an array inside
    return str(Path(folder) / path) if file.exists() else path


@contextlib.contextmanager
def explain_other_folder(workdir: Path) -> Iterator[None]:
    """Adds to an InputError about files of a continued training the folder that their relative paths begin in."""
    try:
        yield
    except InputError as error:
        folder = None
        with contextlib.suppress(InputError):
            folder = read_json(workdir / "run.json", {"folder": str}, "")["folder"]
        if folder is None or Path(folder) == Path.cwd():
            raise
        sentence = str(error).rstrip(".")
        raise InputError(
            f"{sentence}. The training in {workdir} began in the folder {folder}, where its relative paths "
            "start; to continue it, give the command there, with the path of this run."
        ) from error


def _earlier_init(path: Path) -> dict | None:
    with contextlib.suppress(InputError):
        return read_json(path, {"init": dict}, "")["init"]
    return None


def _git_revision() -> str | None:
    """Of the checkout this package runs from; None for an installed one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
