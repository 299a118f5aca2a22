"""What every reader returns, and the units, shapes and grey values they share."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualrel_jax.errors import InputError
from dualrel_jax.utils.text import format_shape

Voxel = tuple[float, float, float]

_NM = {
    **dict.fromkeys(("pm", "picometer"), 1e-3),
    **dict.fromkeys(("angstrom", "å"), 0.1),
    **dict.fromkeys(("nm", "nanometer", "nanometers"), 1.0),
    **dict.fromkeys(("um", "micron", "microns", "micrometer", "micrometers"), 1e3),
    **dict.fromkeys(("mm", "millimeter"), 1e6),
    **dict.fromkeys(("cm", "centimeter"), 1e7),
    "inch": 25.4e6,
    **dict.fromkeys(("m", "meter"), 1e9),
}


@dataclass(frozen=True)
class Source:
    """What a reader understood of a file.

    `read(z, y, x)` returns that region `y x` of one slice; y and x are ranges without a step. It may be called from
    several threads. `names` are the file names of the slices, for a folder.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    voxel_nm: Voxel | None
    format: str
    read: Callable[[int, slice, slice], np.ndarray]
    names: tuple[str, ...] = ()


def unit_nm(unit: Any) -> float | None:
    """Length of a unit by its name, in nm; None for 'pixel' and anything else unknown."""
    # ImageJ writes the micro sign escaped, and older versions in a wrong encoding; Unicode has two of them.
    text = str(unit).strip().lower().replace("\\u00b5", "u").replace("â", "")
    return _NM.get(text.replace("\u00b5", "u").replace("\u03bc", "u"))


def voxel_of(sizes_nm: Iterable[float]) -> Voxel | None:
    """(z, y, x), with z nan where it is unknown; None where the pixel size is unknown."""
    # Six digits: units are converted and TIFF keeps ratios of whole numbers, so 4.6 arrives as 4.5999999.
    z, y, x = (float(f"{size:.6g}") for size in sizes_nm)
    return (z if z > 0 else float("nan"), y, x) if y > 0 and x > 0 else None


def is_voxel(sizes_nm: Sequence[float]) -> bool:
    """Whether these are three sizes above 0; the first, z, may be nan."""
    return len(sizes_nm) == 3 and all(0 < size < math.inf for size in sizes_nm[math.isnan(sizes_nm[0]) :])


def as_grey(image: np.ndarray, name: str) -> np.ndarray:
    """`y x` as it is; `y x c` (grey or RGB, perhaps with alpha) only where colours are equal and alpha is constant."""
    if image.ndim == 2:
        return image
    if image.shape[-1] in (2, 4):
        image, alpha = image[..., :-1], image[..., -1]
        if alpha.min() < alpha.max():
            raise InputError(f"{name}: is transparent in places; expected an opaque image: save it flattened")
    if (image == image[..., :1]).all():
        return np.ascontiguousarray(image[..., 0])
    raise InputError(f"{name}: is a colour image; expected grey: convert it (Fiji: Image > Type > 8-bit)")


def array_source(array: Any, name: str, voxel_nm: Voxel | None, title: str) -> Source:
    """Any lazily indexed array of axes `y x` or `z y x`, or of more where those are of length 1.

    Raises:
        InputError: more axes, colour, or not numbers.
    """
    shape, dtype = tuple(array.shape), np.dtype(getattr(array.dtype, "numpy_dtype", array.dtype))
    kept = list(range(len(shape)))
    while len(kept) > 3 and any(shape[axis] == 1 for axis in kept):
        # A trailing channel first, since x is never 1; then time and channel, which come in front.
        kept.remove(kept[-1] if shape[kept[-1]] == 1 else next(axis for axis in kept if shape[axis] == 1))
    if len(kept) not in (2, 3) or 0 in shape:
        raise InputError(
            f"{name}: is {len(shape)}-D ({format_shape(shape)}); expected one stack (z, y, x): "
            "save one channel and time point alone"
        )
    if len(kept) == 3 and shape[kept[-1]] in (3, 4):
        raise InputError(
            f"{name}: {format_shape(shape)} looks like a colour image; expected grey (z, y, x): convert it"
        )
    if dtype.kind not in "biuf":
        raise InputError(f"{name}: holds values of type {dtype}; expected whole or real numbers: convert it")

    def read(z: int, y: slice, x: slice) -> np.ndarray:
        index: list[int | slice] = [0] * len(shape)
        for axis, wanted in zip(kept, (z, y, x)[-len(kept) :], strict=True):
            index[axis] = wanted
        return np.asarray(array[tuple(index)])

    zyx = (1,) * (3 - len(kept)) + tuple(shape[axis] for axis in kept)
    return Source(zyx, dtype.newbyteorder("="), voxel_nm, title, read)
