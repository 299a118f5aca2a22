"""Imaris (IMS): an HDF5 file with channels, time points and levels."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from dualrel_jax.data.io.readers.base import Stack, array_stack
from dualrel_jax.data.io.voxel import unit_nm
from dualrel_jax.errors import InputError

SUFFIXES = (".ims",)


def read_imaris(path: Path, inner: str | None) -> Stack:
    """The finest level of the only channel of the only time point, or of the channel that `inner` names: "Channel 1".

    Voxel size by the extents in `DataSetInfo/Image`. Chunks at the far border are filled up; the image ends before.

    Raises:
        InputError: several channels or time points, or no such channel.
    """
    import h5py

    file = h5py.File(path, "r", rdcc_nbytes=512 << 20, rdcc_nslots=100_003)
    level = file.get("DataSet/ResolutionLevel 0")
    times = list(level) if level is not None else []
    if len(times) != 1:
        raise InputError(
            f"{path}: has {len(times)} time points; expected one: save one time point alone (Imaris: Edit > Crop Time)"
        )
    channels = list(level[times[0]])
    if len(channels) != 1 and inner is None or inner is not None and inner not in channels:
        raise InputError(
            f"{path}: {f'has no {inner}' if inner else f'has {len(channels)} channels'}; expected one: name it as "
            f"{path.name}:NAME; the file holds {', '.join(channels) or 'none'}"
        )
    channel = level[times[0]][inner or channels[0]]
    data, image = channel["Data"], file["DataSetInfo/Image"]
    shape = tuple(
        int(_text(channel, f"ImageSize{axis}") or _text(image, axis) or length)
        for axis, length in zip("ZYX", data.shape, strict=True)
    )
    title = f"Imaris, {channel.name.rsplit('/', 1)[-1]}"
    return array_stack(_Cropped(data, shape), str(path), title, "zyx", _sizes_nm(image, shape))


def _sizes_nm(image: Any, shape: tuple[int, int, int]) -> list[float]:
    """(z, y, x); nan where extents or their unit are unknown. Imaris counts x first."""
    unit = unit_nm(re.sub(r"[^\w\u00b5\u03bc]", "", _text(image, "Unit")) or "um") or np.nan
    sizes = []
    for axis, length in zip((2, 1, 0), shape, strict=True):
        low, high = (_text(image, f"Ext{end}{axis}") for end in ("Min", "Max"))
        sizes.append(unit * abs(float(high) - float(low)) / length if low and high else np.nan)
    return sizes


def _text(item: Any, name: str) -> str:
    """An attribute, which Imaris writes as an array of single characters; "" where it is missing."""
    value = item.attrs.get(name)
    if value is None:
        return ""
    letters = np.atleast_1d(value).tolist()
    return "".join(c.decode("utf-8", "replace") if isinstance(c, bytes) else str(c) for c in letters).strip()


class _Cropped:
    """An array without what lies beyond `shape`."""

    def __init__(self, array: Any, shape: tuple[int, ...]):
        self.shape, self.dtype, self._array = shape, array.dtype, array

    def __getitem__(self, index: tuple) -> np.ndarray:
        inside = (i if isinstance(i, int) else slice(*i.indices(n)) for i, n in zip(index, self.shape, strict=True))
        return self._array[tuple(inside)]
