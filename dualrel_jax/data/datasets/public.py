"""The public data sets: where they can be had, and from the folder of each to volumes with their labels.

Several copies of Lucchi on the web have *train* and *test* swapped: the mean foreground of the official training volume
is 5.6 %, of the official test volume 5.3 %.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dualrel_jax.data.datasets.geometry import check_shapes
from dualrel_jax.data.datasets.labels import LabelRule, Source, fully_labelled, numbers_in
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.errors import InputError


@dataclass(frozen=True)
class Remote:
    """One file of a data set; an archive lists in `folders` what is unpacked (wherever it lies inside the archive)."""

    url: str
    size: int | None = None  # bytes
    sha256: str | None = None
    folders: tuple[str, ...] = ()

    @property
    def filename(self) -> str:
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Layout:
    """A public data set: where it can be had, and how it lies on disk.

    Attributes:
      name: of the data set and of its folder.
      voxel_nm: (z, y, x), as published.
      train, validation: default z ranges in the training volume; "" is all of it, "none" nothing.
      reader: layout, folder -> {"train": Source, optionally "test" and "unlabelled"}.
      files: what the folder holds, for people.
      remotes: the files that `dualrel download` fetches; none where neither size nor checksum is known.
      page: where people find it, if there are no `remotes`.
    """

    name: str
    voxel_nm: tuple[float, float, float]
    train: str
    validation: str
    reader: Callable[["Layout", Path], dict[str, Source]]
    files: str
    remotes: tuple[Remote, ...] = ()
    page: str = ""

    def read(self, folder: Path) -> dict[str, Source]:
        """The volumes in `folder`.

        Raises:
          InputError: files missing (with where they can be had), or image and label of different shape.
        """
        return self.reader(self, folder)

    def open(self, folder: Path, file: str) -> Volume:
        """The volume `file` of `folder`."""
        path = _find(folder, file)
        if path is None:
            fetch = f"fetch {self.name} with dualrel download {self.name}, or " if self.remotes else ""
            raise InputError(
                f"{folder / file} is missing; {fetch}{self.by_hand(folder)}, or set data.dir to the folder that holds "
                f"{self.name}/."
            )
        return open_volume(path, self.voxel_nm)

    def by_hand(self, folder: Path) -> str:
        """How to get the files without `dualrel download`."""
        source = self.page or ", ".join(remote.url for remote in self.remotes)
        return f"put {self.files} into {folder} by hand (from {source})"


def read_layout(name: str, data_dir: str | Path) -> dict[str, Source]:
    """The volumes of public data set `name`, from `data_dir/name` or else `$DUALREL_DATA/name`; see `Layout.read`."""
    return LAYOUTS[name].read(find_folder(name, data_dir))


def find_folder(name: str, data_dir: str | Path) -> Path:
    """`data_dir/name`, or `$DUALREL_DATA/name` where the first does not exist."""
    folder = Path(data_dir).expanduser() / name
    elsewhere = os.environ.get("DUALREL_DATA")
    if not folder.exists() and elsewhere and (Path(elsewhere) / name).exists():
        return Path(elsewhere) / name
    return folder


def _lucchi(layout: Layout, folder: Path) -> dict[str, Source]:
    def read(prefix: str) -> Source:
        return fully_labelled(
            layout.open(folder, f"{prefix}.tif"), layout.open(folder, f"{prefix}_groundtruth.tif"), "grey"
        )

    sources = {"train": read("training")}
    if _find(folder, "testing.tif") and _find(folder, "testing_groundtruth.tif"):
        sources["test"] = read("testing")
    return sources


def _lucchi_pp(layout: Layout, folder: Path) -> dict[str, Source]:
    def read(split: str) -> Source | None:
        # The official archive holds PNG slices, its mirror HDF5; only the first has a published checksum.
        names = (f"{split}_In", f"{split}_Out"), (f"{split.lower()}_im.h5", f"{split.lower()}_mito.h5")
        pairs = [pair for pair in names if all(_find(folder, name) for name in pair)]
        if not pairs and split == "Test":
            return None
        image, label = (layout.open(folder, name) for name in (pairs or names)[0])
        return fully_labelled(image, label, "instances" if image.path.endswith(".h5") else "grey")

    sources = {"train": read("Train"), "test": read("Test")}
    return {split: source for split, source in sources.items() if source}


def _mitoem(layout: Layout, folder: Path) -> dict[str, Source]:
    image = layout.open(folder, "im")
    z_of = {number: z for z, number in enumerate(numbers_in(image))}

    def read(labels: str) -> Source:
        label = layout.open(folder, labels)
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


def _vnc(layout: Layout, folder: Path) -> dict[str, Source]:
    image, label = (layout.open(folder, f"stack1/{kind}") for kind in ("raw", "mitochondria"))
    sources = {"train": fully_labelled(image, label, "grey")}
    if _find(folder, "stack2/raw"):
        image = layout.open(folder, "stack2/raw")
        sources["unlabelled"] = Source(image, tuple(range(len(image))))
    return sources


def _empiar(layout: Layout, folder: Path) -> dict[str, Source]:
    image, label = (layout.open(folder, file) for file in ("images.tif", "instances.tif"))
    return {"train": fully_labelled(image, label, "instances")}


def _find(folder: Path, name: str) -> Path | None:
    """`folder/name`, or one folder further down, as some archives unpack."""
    candidates = [folder / name, *sorted(folder.glob(f"*/{name}"))]
    return next((path for path in candidates if path.exists()), None)


_EPFL = "https://documents.epfl.ch/groups/c/cv/cvlab-unit/www/data/%20ElectronMicroscopy_Hippocampus/"
_LUCCHI_FILES = ("training.tif", "training_groundtruth.tif", "testing.tif", "testing_groundtruth.tif")
_EM30 = "https://huggingface.co/datasets/pytc/EM30/resolve/main/"
_MITOEM = "https://huggingface.co/datasets/pytc/MitoEM/resolve/main/"
_EMPIAR = {  # two volumes of MitoNet's benchmark (Conrad and Narayan 2023)
    "reader": _empiar,
    "files": "images.tif, instances.tif (z y x, a number per mitochondrion)",
    "page": "https://www.ebi.ac.uk/empiar/EMPIAR-10982/",
}


def _mitoem_layout(tissue: str, images: str, labels: str) -> Layout:
    """MitoEM of `tissue`, R (rat) or H (human); `images` and `labels` are the SHA-256 of its two archives."""
    archives = (
        Remote(f"{_EM30}EM30-{tissue}-im.zip", sha256=images, folders=("im",)),
        Remote(
            f"{_MITOEM}EM30-{tissue}-mito-train-val-v2.zip", sha256=labels, folders=("mito-train-v2", "mito-val-v2")
        ),
    )
    return Layout(
        f"mitoem_{tissue.lower()}",
        voxel_nm=(30.0, 8.0, 8.0),
        train="",
        validation="none",
        reader=_mitoem,
        files="im/im0000.png ..., mito-train-v2/seg0000.tif ..., mito-val-v2/seg0400.tif ...",
        remotes=archives,
    )


_LAYOUTS = (
    Layout(
        "lucchi",
        voxel_nm=(5.0, 5.0, 5.0),
        train="0:128",
        validation="133:165",
        reader=_lucchi,
        files=", ".join(_LUCCHI_FILES),
        # EPFL publishes no checksum, so its files are checked by size.
        remotes=tuple(Remote(_EPFL + name, size=129_919_357) for name in _LUCCHI_FILES),
    ),
    Layout(
        "lucchi_pp",
        voxel_nm=(5.0, 5.0, 5.0),
        train="0:128",
        validation="133:165",
        reader=_lucchi_pp,
        files="Lucchi++/Train_In, Train_Out, Test_In, Test_Out (or train_im.h5, train_mito.h5, test_im.h5 ...)",
        remotes=(
            Remote(
                "http://www.casser.io/files/lucchi_pp.zip",
                sha256="770ce9e98fc6f29c1b1a250c637e6c5125f2b5f1260e5a7687b55a79e2e8844d",
                folders=("Lucchi++/Train_In", "Lucchi++/Train_Out", "Lucchi++/Test_In", "Lucchi++/Test_Out"),
            ),
        ),
    ),
    _mitoem_layout(
        "R",
        images="6a2cac68adde5d01984542d3ee1d7753d1fa3e6eb2a042ce15ce297c95885bbe",
        labels="c56380ac575428a818bd293ca3509d1249999846c3702ccbf11d308acdd2ae86",
    ),
    _mitoem_layout(
        "H",
        images="98fe259f36a7d8d43f99981b7a0ef8cdeba2ce2615ff91595f428ae57207a041",
        labels="0e8ed292cfcd0c58701d9f4299244a1b66d6aeb506c85754c34f98a4eda0ef1b",
    ),
    Layout(
        "vnc",
        voxel_nm=(50.0, 4.6, 4.6),  # sections are 45 to 50 nm thick
        train="0:14",
        validation="16:20",
        reader=_vnc,
        files="stack1/raw/00.tif ..., stack1/mitochondria/00.png ..., stack2/raw/00.tif ...",
        remotes=(
            Remote(
                "https://github.com/unidesigner/groundtruth-drosophila-vnc/archive/refs/heads/master.zip",
                sha256="f7bd0db03c86b64440a16b60360ad60c0a4411f89e2c021c7ee2c8d6af3d7e86",
                folders=("stack1/raw", "stack1/mitochondria", "stack2/raw"),
            ),
        ),
    ),
    Layout("fly_brain", (12.0, 12.0, 12.0), "0:200", "212:256", **_EMPIAR),
    Layout("glycolytic_muscle", (18.0, 18.0, 18.0), "0:150", "160:192", **_EMPIAR),
)
LAYOUTS = {layout.name: layout for layout in _LAYOUTS}
