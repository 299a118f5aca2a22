"""`dualrel doctor`: whether machine, config and data fit together, before a training."""

import contextlib
import importlib.metadata
import importlib.util
import io
import os
import platform
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.config.rules import side_multiple
from dualrel_jax.data.checks.finding import Finding, list_words, places
from dualrel_jax.data.checks.labels import check_blank, check_labels, check_numbering, check_wholly_labelled
from dualrel_jax.data.checks.rules import check_image, check_kinds, check_place, check_view
from dualrel_jax.data.datasets.partition import make_partition
from dualrel_jax.data.datasets.registry import Dataset, Part, load_dataset
from dualrel_jax.data.pipeline import create, crops, resident
from dualrel_jax.methods import create_method
from dualrel_jax.training import memory as memory_lib
from dualrel_jax.utils import sharding
from dualrel_jax.utils.ranges import evenly_spaced
from dualrel_jax.visualization import overlays

_EXTRAS = {  # of pyproject.toml, without those for devices and developers -> what their packages are for
    "formats": "NIfTI, NRRD, MRC, compressed TIFF and more codecs",
    "onnx": "export to BioImage.IO",
    "napari": "the napari plugin",
    "cluster": "tasks on many machines",
}


def examine(config: ConfigDict, workdir: str | Path) -> list[Finding]:
    """Prints what is found, and returns it; draws labelled slices into `workdir/pictures/doctor.png`.

    Raises:
      InputError: what training with this config would refuse.
    """
    findings = []
    for finding in _findings(config_lib.resolve(config), Path(workdir)):
        print(finding, flush=True)
        findings.append(finding)
    if count := sum(finding.look for finding in findings):
        print(f"{count} thing{'s' if count > 1 else ''} to look at before you train: the lines that begin with look.")
    else:
        print("Nothing seems wrong.")
    return findings


def _findings(config: ConfigDict, workdir: Path) -> Iterator[Finding]:
    yield from _machine()
    for keys in (("image", "label"), ("test_image", "test_label")):
        if (yield from check_kinds(config.data, *keys)):
            return
    with contextlib.redirect_stdout(io.StringIO()):  # the findings have what it prints of the files
        dataset = load_dataset(config.data)
    suspicious = []
    for part in (*dataset.train, *dataset.test):
        yield from check_image(part, config.data)
        if part.labelled_zs:
            yield from check_place(part)
            for finding in check_labels(part):
                suspicious += [(part, z) for z in finding.slices]
                yield finding
            yield from check_numbering(part, config.data)
            yield from check_wholly_labelled(part, config.data)
    for part in dataset.validation:
        yield from check_blank(part)
    path = overlays.mask_sheet(
        _panels(dataset, suspicious),
        workdir / "pictures" / "doctor.png",
        dataset.train[0].pixel_nm,
        label_meanings=("your labels", "not labelled"),
        fill=True,
    )
    yield Finding(f"{path} shows labelled slices: see whether the coloured areas are the mitochondria.")
    yield from _training(config, dataset)


def _machine() -> Iterator[Finding]:
    devices = jax.local_devices()
    limit = (devices[0].memory_stats() or {}).get("bytes_limit")
    names = f"{len(devices)} x {devices[0].device_kind}" + (f" with {_gib(limit)} each" if limit else "")
    size = memory_lib.machine_bytes()
    memory = f", {_gib(size)} of memory" if size else ""
    yield Finding(
        f"Python {platform.python_version()}, JAX {jax.__version__} on {names}; {os.cpu_count()} cores{memory}."
    )
    yield _optional_packages()


def _optional_packages() -> Finding:
    """Which packages of the extras are installed, and what the absent ones are for."""
    needs, installed, absent = importlib.metadata.requires("dualrel-jax"), [], []
    for extra, use in _EXTRAS.items():
        offered = [need for need in needs if re.search(rf"extra == .{extra}\b", need)]
        packages = [re.match(r"[\w.-]+", need).group() for need in offered]
        missing = [name for name in packages if not any(importlib.metadata.distributions(name=name))]
        installed += [name for name in packages if name not in missing]
        absent += [f"{list_words(missing)} (extra {extra}: {use})"] if missing else []
    return Finding(f"Optional packages installed: {list_words(installed)}; absent: {'; '.join(absent) or 'none'}.")


def _training(config: ConfigDict, dataset: Dataset) -> Iterator[Finding]:
    """What the config asks for; refuses what `train` refuses."""
    unlabelled_too = create_method(config).strong_views > 0
    mesh = sharding.training_mesh(config.train, unlabelled_too)
    if idle := sharding.idle_devices(config.train, mesh):
        yield Finding(idle)
    batch = config.train.batch_labelled + (config.train.batch_unlabelled if unlabelled_too else 0)
    partition = make_partition(dataset.train, config.data)
    chosen = [crops.resolve(dataset.train, slices) for slices in (partition.labelled, partition.unlabelled)]
    crops.check_fits(chosen[0] + chosen[1], config.train.crop_px, side_multiple(config.model))
    validation, test = (sum(len(part.labelled_zs) for part in parts) for parts in (dataset.validation, dataset.test))
    yield Finding(
        f"{partition.describe(unlabelled_too)}; "
        f"{validation or 'no'} labelled slice{'s' * (validation != 1)} to validate on while training, {test or 'none'} "
        "to test on."
    )
    yield from _kept_back(dataset)
    patch, pixel_nm = config.train.crop_px, dataset.train[0].pixel_nm
    covers = f"{' x '.join(f'{patch * nm / 1000:.2g}' for nm in pixel_nm)} µm" if pixel_nm else "an unknown size"
    pixel = f"{pixel_nm[0]:g} x {pixel_nm[1]:g} nm" if pixel_nm else "unknown"
    yield Finding(
        f"Size {config.size}: {config.train.steps} steps of {batch} crops; a crop of {patch} x {patch} pixels covers "
        f"{covers} (training pixel size {pixel})."
    )
    yield from check_view(dataset.train[0], patch)
    needed_mib = resident.size_mib(config, *chosen)
    if create.choose_pipeline(config.data, needed_mib) == "resident":
        kept_mib = needed_mib if unlabelled_too else resident.size_mib(config, chosen[0], [])
        yield Finding(f"{kept_mib:.0f} MiB of slices (a byte a voxel, and a byte a labelled one) stay on the device.")
    elif importlib.util.find_spec("tensorflow"):
        yield Finding(f"Crops are read from the files while training; all slices would be {needed_mib:.0f} MiB.")
    else:
        yield Finding(
            f"The {needed_mib:.0f} MiB of slices are not kept on the device, and reading them while training needs "
            "TensorFlow: install tensorflow-cpu, or set data.pipeline=resident if that much memory is free.",
            look=True,
        )


def _kept_back(dataset: Dataset) -> Iterator[Finding]:
    """Which labels do not train, since they or their neighbours are validated on."""
    kept = [z for part in dataset.validation for z in part.labelled_zs]
    if kept:
        first = dataset.train[0]
        between = sorted(set(first.rule.index) - {*first.labelled_zs, *kept})
        gap = f", {places(between)} left out between them and the training" if between else ""
        yield Finding(
            f"Of the labelled slices {places(kept)} are kept to validate on{gap} (data.validation_region=none keeps "
            "none back)."
        )


def _panels(dataset: Dataset, suspicious: Sequence[tuple[Part, int]]) -> list[tuple]:
    """Four labelled slices for `overlays.mask_sheet`, `suspicious` ones first; nothing is predicted yet."""
    doubtful = {(part.name, z): (part, z) for part, z in suspicious}
    labelled = [(part, z) for part in dataset.train for z in part.labelled_zs if (part.name, z) not in doubtful]
    chosen = evenly_spaced([*doubtful.values()], 4)
    chosen += evenly_spaced(labelled, 4 - len(chosen))
    return [(part.image_at(z), None, part.label_at(z), f"{part.name}, z = {z}") for part, z in chosen]


def _gib(size: float) -> str:
    return f"{size / 2**30:.0f} GiB"
