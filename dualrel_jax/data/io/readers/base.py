"""What every reader returns: a lazy stack of grey slices."""

import math
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualrel_jax.data.io.pyramid import Level
from dualrel_jax.data.io.readers.axes import along, find_axes, has_frames
from dualrel_jax.data.io.voxel import Voxel, voxel_of
from dualrel_jax.errors import InputError

CONVERT = ", or convert the file to TIFF"  # the way out where a library for a format is missing


@dataclass(frozen=True)
class Stack:
    """The stack of grey slices in a file.

    Attributes:
        shape: (z, y, x).
        dtype: of the values that `read` returns, in native byte order.
        voxel_nm: (z, y, x), z perhaps nan; None where the file does not state the pixel size.
        format: the kind of file, for people.
        read: `read(z, y, x)` returns that region `y x` of one slice; y and x are ranges without a step. It may be
            called from several threads.
        names: the file names of the slices, for a folder.
        origin_nm: (z, y, x) of the centre of the first voxel, as the file places it; zeros where it does not.
        path: names this very array, where the reader chose it inside of a group; else empty.
        level: the level of a pyramid that this is; None where there is no other.
        level_reason: why that level, in words.
        orientation: as `orientation_of` has it; "" where the file states none.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype
    voxel_nm: Voxel | None
    format: str
    read: Callable[[int, slice, slice], np.ndarray]
    names: tuple[str, ...] = ()
    origin_nm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    path: str = ""
    level: Level | None = None
    level_reason: str = ""
    orientation: str = ""


def orientation_of(codes: Sequence[str | None], position: Sequence[float]) -> str:
    """Where x, y and z lead in a patient, by the first voxel's position: "LPI" for left, posterior, inferior.

    A "?" follows what a library writes that knows of none: nibabel RAS, ITK LPS, and the position 0.
    """
    orientation = "".join(code or "?" for code in codes)
    return f"{orientation}?" if orientation in ("RAS", "LPS") and not np.any(position) else orientation


def as_grey(image: np.ndarray, name: str) -> np.ndarray:
    """`y x` as it is; `y x c` (grey or RGB, perhaps with alpha) only where colours are equal and alpha is constant."""
    if image.ndim == 2:
        return image
    if image.shape[-1] in (2, 4):
        image, alpha = image[..., :-1], image[..., -1]
        if alpha.min() < alpha.max():
            raise InputError(
                f"{name}: is transparent in places; expected an opaque image: save it flattened, or of labels save the "
                "mask alone, as 8-bit grey"
            )
    if (image == image[..., :1]).all():
        return np.ascontiguousarray(image[..., 0])
    raise InputError(
        f"{name}: is a colour image; expected grey: convert it (Fiji: Image > Type > 8-bit), or of "
        "labels export their numbers instead of colours"
    )


def unreadable(path: object, error: Exception, otherwise: str) -> InputError:
    """The sentence for a library's error: that reading is not permitted, or else `otherwise`."""
    forbidden = isinstance(path, Path) and path.exists() and not os.access(path, os.R_OK)  # nibabel does not say so
    if forbidden or isinstance(error, PermissionError) or "PERMISSION_DENIED" in str(error):
        inside = re.search(r'local file "([^"]+)"', str(error))  # a chunk, by tensorstore
        file = inside[1] if inside else getattr(error, "filename", None) or path
        return InputError(f"{file}: you may not read it; expected permission to: ask its owner, or run chmod u+r on it")
    return InputError(f"{path}: {otherwise}")


class ReadOnce:
    """An array that is read whole at its first use, by one thread: where the file allows nothing else."""

    def __init__(self, read: Callable[[], np.ndarray], shape: tuple[int, ...], dtype: np.dtype):
        self.shape, self.dtype, self._read = tuple(shape), dtype, read
        self._array: np.ndarray | None = None
        self._lock = threading.Lock()

    def __getitem__(self, index: tuple) -> np.ndarray:
        with self._lock:
            if self._array is None:
                self._array = self._read()
        return self._array[index]


def array_stack(
    array: Any,
    path: str,
    title: str,
    names: Sequence[object] | None = None,
    sizes_nm: Sequence[float] | None = None,
    *,
    origin_nm: Sequence[float] | None = None,
    fixed: Mapping[int, int] | None = None,
) -> Stack:
    """The stack in a lazily indexed array.

    Args:
        array: axes z y x, or y x, or in any order that `names` gives; all others have length 1.
        path: for messages.
        title: the kind of file, for people.
        names: of the axes, as the file states them; None where it does not.
        sizes_nm: of a voxel along each axis of the array, nan where unknown.
        origin_nm: of the centre of the first voxel along each axis; nan where it has no unit.
        fixed: axis -> the place on it that is read, of channels.

    Raises:
        InputError: more axes, colour, or not numbers.
    """
    shape, dtype = tuple(array.shape), np.dtype(getattr(array.dtype, "numpy_dtype", array.dtype))
    fixed = fixed or {}
    axes = find_axes([1 if axis in fixed else length for axis, length in enumerate(shape)], names, path)
    if dtype.kind not in "biuf":
        raise InputError(f"{path}: holds values of type {dtype}; expected whole or real numbers: convert it")

    def read(z: int, y: slice, x: slice) -> np.ndarray:
        index: list[int | slice] = [fixed.get(axis, 0) for axis in range(len(shape))]
        if axes.z is not None:
            index[axes.z] = z
        index[axes.y], index[axes.x] = y, x
        image = np.asarray(array[tuple(index)])
        return image if axes.y < axes.x else image.T

    if sorted(axes, key=lambda axis: -1 if axis is None else axis) != list(axes):
        title += f", stored as {' '.join(map(str, names))}"
    zyx = tuple(1 if axis is None else shape[axis] for axis in axes)
    title += ", its frames as slices" if has_frames(axes, names, len(shape)) else ""
    voxel_nm = None
    if sizes_nm is not None and len(sizes_nm) == len(shape):
        voxel_nm = voxel_of(along(axes, sizes_nm, names))
    placed = (0.0,) * 3 if origin_nm is None else along(axes, origin_nm, names)
    origin = tuple(0.0 if math.isnan(position) else position for position in placed)
    return Stack(zyx, dtype.newbyteorder("="), voxel_nm, title, read, origin_nm=origin)
