"""Which reader opens which file, by the end of its name."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple

from dualrel_jax.data.io.readers import arrays, image_folder, imaris, mrc, nifti, nrrd, tiff
from dualrel_jax.data.io.readers.base import Stack


class Expected(NamedTuple):
    """What is known of a file before it is read.

    Attributes:
        shapes: z y x that would fit.
        labels: it holds labels, not an image.
    """

    shapes: Collection[tuple[int, int, int]] = ()
    labels: bool = False


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        name: for people.
        suffixes: ends of file names, in small letters.
        read: (path, name of an array inside or None, what is expected) -> stack.
        holds_arrays: FILE:NAME names an array or a channel inside.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path, str | None, Expected], Stack]
    holds_arrays: bool = False


FORMATS = (
    Format("TIFF", tiff.SUFFIXES, lambda path, inner, expected: tiff.read_tiff(path, expected.shapes, inner), True),
    Format(
        "one image",
        tuple(image_folder.FLAT),
        lambda path, inner, expected: image_folder.read_slices([path], labels=expected.labels),
    ),
    Format("HDF5", arrays.HDF5_SUFFIXES, lambda path, inner, expected: arrays.read_hdf5(path, inner), True),
    Format("NumPy", (".npy",), lambda path, inner, expected: arrays.read_npy(path)),
    Format("NIfTI", nifti.SUFFIXES, lambda path, inner, expected: nifti.read_nifti(path)),
    Format("NRRD", nrrd.SUFFIXES, lambda path, inner, expected: nrrd.read_nrrd(path)),
    Format("MRC", mrc.SUFFIXES, lambda path, inner, expected: mrc.read_mrc(path)),
    Format("Imaris", imaris.SUFFIXES, lambda path, inner, expected: imaris.read_imaris(path, inner), True),
)
SUPPORTED = (
    "a folder of slices (TIFF, PNG, JPEG); zarr 2 or 3 (.zarr) and n5 (.n5), also at s3://, gs:// or https://; "
    + "; ".join(f"{kind.name} ({', '.join(kind.suffixes)})" for kind in FORMATS)
    + "; what is inside of a file as FILE.h5:NAME"
)


def format_of(file: Path) -> Format | None:
    """The format that the end of the file's name states; None where it is none of them."""
    name = file.name.lower()
    return next((kind for kind in FORMATS if name.endswith(kind.suffixes)), None)


def advice(file: Path) -> str:
    """How to make a file of an unknown format readable."""
    if file.suffix.lower() in (".zip", ".ozx"):
        return "unpack it, and name the folder or the file inside"
    return "convert it (Fiji: File > Import > Bio-Formats, then File > Save As > Tiff)"
