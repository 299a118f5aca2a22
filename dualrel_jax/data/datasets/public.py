"""How the folders of the public data sets look: from a folder to volumes with their labels.

Several copies of Lucchi on the web have *train* and *test* swapped: the mean foreground of the official training volume
is 5.6 %, of the official test volume 5.3 %.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dualrel_jax.data.datasets.download import REMOTES, source_of
from dualrel_jax.data.datasets.labels import LabelRule, Source, check_shapes, fully_labelled, numbers_in
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.errors import InputError


@dataclass(frozen=True)
class Layout:
    """A public data set on disk.

    Attributes:
      voxel_nm: (z, y, x), as published.
      train, validation: default z ranges in the training volume; "" is all of it, "none" nothing.
      read: folder, verbose -> {"train": Source, optionally "test" and "unlabelled"}.
      files: what the folder holds, for people.
    """

    voxel_nm: tuple[float, float, float]
    train: str
    validation: str
    read: Callable[[Path, bool], dict[str, Source]]
    files: str


def read_layout(name: str, data_dir: str | Path, verbose: bool = True) -> dict[str, Source]:
    """The volumes of public data set `name`, from `data_dir/name` or else `$DUALREL_DATA/name`.

    Raises:
      InputError: files missing (with where they can be had), or image and label of different shape.
    """
    return LAYOUTS[name].read(find_folder(name, data_dir), verbose)


def find_folder(name: str, data_dir: str | Path) -> Path:
    """`data_dir/name`, or `$DUALREL_DATA/name` where the first does not exist."""
    folder = Path(data_dir).expanduser() / name
    elsewhere = os.environ.get("DUALREL_DATA")
    if not folder.exists() and elsewhere and (Path(elsewhere) / name).exists():
        return Path(elsewhere) / name
    return folder


def _lucchi(folder: Path, verbose: bool) -> dict[str, Source]:
    voxel_nm = LAYOUTS["lucchi"].voxel_nm

    def read(prefix: str) -> Source:
        names = f"{prefix}.tif", f"{prefix}_groundtruth.tif"
        return fully_labelled(*(_open("lucchi", folder, name, verbose, voxel_nm) for name in names), "grey")

    sources = {"train": read("training")}
    if _find(folder, "testing.tif") and _find(folder, "testing_groundtruth.tif"):
        sources["test"] = read("testing")
    return sources


def _lucchi_pp(folder: Path, verbose: bool) -> dict[str, Source]:
    voxel_nm = LAYOUTS["lucchi_pp"].voxel_nm

    def read(split: str) -> Source | None:
        # The official archive holds PNG slices, its mirror HDF5; only the first has a published checksum.
        names = (f"{split}_In", f"{split}_Out"), (f"{split.lower()}_im.h5", f"{split.lower()}_mito.h5")
        pairs = [pair for pair in names if all(_find(folder, name) for name in pair)]
        if not pairs and split == "Test":
            return None
        image, label = (_open("lucchi_pp", folder, name, verbose, voxel_nm) for name in (pairs or names)[0])
        return fully_labelled(image, label, "instances" if image.path.endswith(".h5") else "grey")

    sources = {"train": read("Train"), "test": read("Test")}
    return {split: source for split, source in sources.items() if source}


def _mitoem(name: str, folder: Path, verbose: bool) -> dict[str, Source]:
    image = _open(name, folder, "im", verbose, LAYOUTS[name].voxel_nm)
    z_of = {number: z for z, number in enumerate(numbers_in(image))}

    def read(labels: str) -> Source:
        label = _open(name, folder, labels, verbose, LAYOUTS[name].voxel_nm)
        check_shapes(image, label)
        numbers = numbers_in(label)
        absent = [number for number in numbers if number not in z_of]
        if absent:
            raise InputError(
                f"{label.path}/{label.names[numbers.index(absent[0])]} labels slice {absent[0]}, which {image.path} "
                f"does not hold ({len(image)} slices); expected im{absent[0]:04d}.png there: get the missing images."
            )
        index = {z_of[number]: i for i, number in enumerate(numbers)}
        return Source(image, tuple(sorted(index)), label, LabelRule("instances", -1, index))

    sources = {"train": read("mito-train-v2")}
    if _find(folder, "mito-val-v2"):
        sources["test"] = read("mito-val-v2")
    return sources


def _vnc(folder: Path, verbose: bool) -> dict[str, Source]:
    voxel_nm = LAYOUTS["vnc"].voxel_nm
    image = _open("vnc", folder, "stack1/raw", verbose, voxel_nm)
    sources = {"train": fully_labelled(image, _open("vnc", folder, "stack1/mitochondria", verbose, voxel_nm), "grey")}
    if _find(folder, "stack2/raw"):
        image = _open("vnc", folder, "stack2/raw", verbose, voxel_nm)
        sources["unlabelled"] = Source(image, tuple(range(len(image))))
    return sources


def _empiar(name: str, folder: Path, verbose: bool) -> dict[str, Source]:
    voxel_nm = LAYOUTS[name].voxel_nm
    image, label = (_open(name, folder, file, verbose, voxel_nm) for file in ("images.tif", "instances.tif"))
    return {"train": fully_labelled(image, label, "instances")}


def _find(folder: Path, name: str) -> Path | None:
    """`folder/name`, or one folder further down, as some archives unpack."""
    candidates = [folder / name, *sorted(folder.glob(f"*/{name}"))]
    return next((path for path in candidates if path.exists()), None)


def _open(name: str, folder: Path, file: str, verbose: bool, voxel_nm: tuple[float, float, float]) -> Volume:
    path = _find(folder, file)
    if path is None:
        by_hand = f"put {LAYOUTS[name].files} into {folder} by hand (from {source_of(name)})"
        fetch = f"fetch {name} with dualrel download {name}, or {by_hand}" if name in REMOTES else by_hand
        raise InputError(f"{folder / file} is missing; {fetch}, or set data.dir to the folder that holds {name}/.")
    return open_volume(path, voxel_nm, verbose)


_EMPIAR_FILES = "images.tif, instances.tif (a number per mitochondrion)"
_MITOEM_FILES = "im/im0000.png ..., mito-train-v2/seg0000.tif ..., mito-val-v2/seg0400.tif ..."

LAYOUTS: dict[str, Layout] = {
    "lucchi": Layout(
        voxel_nm=(5.0, 5.0, 5.0),
        train="0:128",
        validation="133:165",
        read=_lucchi,
        files="training.tif, training_groundtruth.tif, testing.tif, testing_groundtruth.tif",
    ),
    "lucchi_pp": Layout(
        voxel_nm=(5.0, 5.0, 5.0),
        train="0:128",
        validation="133:165",
        read=_lucchi_pp,
        files="Lucchi++/Train_In, Train_Out, Test_In, Test_Out (or train_im.h5, train_mito.h5, test_im.h5 ...)",
    ),
    "mitoem_r": Layout((30.0, 8.0, 8.0), "", "none", partial(_mitoem, "mitoem_r"), _MITOEM_FILES),
    "mitoem_h": Layout((30.0, 8.0, 8.0), "", "none", partial(_mitoem, "mitoem_h"), _MITOEM_FILES),
    # Sections are 45 to 50 nm thick.
    "vnc": Layout(
        voxel_nm=(50.0, 4.6, 4.6),
        train="0:14",
        validation="16:20",
        read=_vnc,
        files="stack1/raw/00.tif ..., stack1/mitochondria/00.png ..., stack2/raw/00.tif ...",
    ),
    # Two volumes of MitoNet's benchmark (Conrad and Narayan 2023).
    "fly_brain": Layout((12.0, 12.0, 12.0), "0:200", "212:256", partial(_empiar, "fly_brain"), _EMPIAR_FILES),
    "glycolytic_muscle": Layout(
        (18.0, 18.0, 18.0), "0:150", "160:192", partial(_empiar, "glycolytic_muscle"), _EMPIAR_FILES
    ),
}
