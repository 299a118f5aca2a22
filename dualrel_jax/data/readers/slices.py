"""Folders of PNG or TIFF slices, and single images."""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from dualrel_jax.data.readers import tiff
from dualrel_jax.data.readers.source import Source, Voxel, as_grey, times
from dualrel_jax.errors import InputError

SUFFIXES = (".png", *tiff.SUFFIXES)
_WHOLE = slice(None)

# Pillow takes an image above 179 million pixels for an attack; a slice of a mosaic may have more.
Image.MAX_IMAGE_PIXELS = None


def read_folder(folder: Path) -> Source:
    """The slices in natural order (2 before 10); hidden files and those of other types are ignored."""
    files = [file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
    kinds = {file.suffix.lower() == ".png" for file in files}
    if not files:
        raise InputError(f"{folder}: holds no slices; expected {', '.join(SUFFIXES)} files, or a zarr or n5 array")
    if len(kinds) > 1:
        raise InputError(f"{folder}: holds both PNG and TIFF files; expected one kind: move the others away")
    return read_slices(sorted(files, key=_natural))


def read_slices(files: list[Path]) -> Source:
    """Images of one shape and type. Their headers are read now, their pixels when asked for."""
    shape, dtype, voxel_nm = _header(files[0])
    for file in files[1:]:
        other_shape, other_dtype, _ = _header(file)
        if (other_shape, other_dtype) != (shape, dtype):
            raise InputError(
                f"{file}: is {times(other_shape)} {other_dtype}; expected {times(shape)} {dtype} as in "
                f"{files[0].name}: convert it or move it away"
            )
    _load(files[0])  # refuses colour now rather than at the first use
    kind = "PNG" if files[0].suffix.lower() == ".png" else "TIFF"
    title = f"{kind} image" if len(files) == 1 else f"folder of {kind} slices"
    names = tuple(file.name for file in files)
    return Source((len(files), *shape), dtype, voxel_nm, title, lambda z, y, x: _load(files[z])[y, x], names)


def _header(file: Path) -> tuple[tuple[int, int], np.dtype, Voxel | None]:
    """-> (y, x), dtype, voxel size."""
    try:
        if file.suffix.lower() in tiff.SUFFIXES:
            source = tiff.read_tiff(file)
            if source.shape[0] > 1:
                raise InputError(f"{file}: holds {source.shape[0]} pages; expected one slice a file: open it by itself")
            return source.shape[1:], source.dtype, source.voxel_nm
        with Image.open(file) as image:
            return image.size[::-1], np.dtype("uint16" if image.mode.startswith("I") else "uint8"), None
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{file}: is not a readable image ({error}); expected a slice: export it again") from error


def _load(file: Path) -> np.ndarray:
    if file.suffix.lower() in tiff.SUFFIXES:
        return tiff.read_tiff(file).read(0, _WHOLE, _WHOLE)
    try:
        with Image.open(file) as image:
            if image.mode.startswith("I"):
                return np.asarray(image).astype(np.uint16)
            # One bit becomes 0 and 255: some tools shrink an all-black mask to that, among others of 8 bit.
            mode = {"1": "L", "LA": "L", "P": "RGB"}.get(image.mode, image.mode)
            return as_grey(np.asarray(image.convert(mode)), str(file))
    except (OSError, SyntaxError) as error:
        raise InputError(f"{file}: is damaged ({error}); expected a whole image: copy or export it again") from error


def _natural(file: Path) -> list[str | int]:
    return [int(part) if part.isdecimal() else part.lower() for part in re.split(r"(\d+)", file.name)]
