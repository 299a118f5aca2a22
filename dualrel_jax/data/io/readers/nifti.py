"""NIfTI, the format of ITK-SNAP and of medical images, by nibabel."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dualrel_jax.data.io.readers.base import CONVERT, ReadOnce, Stack, array_stack, orientation_of
from dualrel_jax.data.io.voxel import likely_nm, unit_nm
from dualrel_jax.utils.libraries import load_library

SUFFIXES = (".nii", ".nii.gz")
_AXES = "xyztcuv"  # the fifth is that of vectors and colours


def read_nifti(path: Path) -> Stack:
    """The image as it is stored; a compressed one is read whole at its first use.

    NIfTI counts x, y, z: `volume[z, y, x]` is its voxel (x, y, z). Its affine, which places the voxels in a patient, is
    not applied, so that labels drawn in ITK-SNAP lie on the image that was opened there, whatever its format.

    Voxel size by `pixdim` and `xyzt_units`. Three ones are what programs write that know no size; where the unit is not
    stated, that of nm, µm and mm which is likely for electron microscopy.
    """
    nibabel = load_library("nibabel", "nibabel", str(path), CONVERT)
    image = nibabel.load(path)
    header, proxy = image.header, image.dataobj
    compressed = path.name.lower().endswith(".gz")
    first = np.asarray(proxy[(slice(0, 1),) * len(proxy.shape)])  # scaled values have another type than stored ones
    array: Any = _Proxy(proxy, first.dtype)
    title = "NIfTI"
    if compressed:
        array, title = ReadOnce(lambda: np.asarray(proxy), proxy.shape, first.dtype), "NIfTI, gzip, read whole"
    if list(nibabel.io_orientation(image.affine)[:3, 0]) != [0, 1, 2]:
        title += ", its axes as stored, not as its affine turns them"
    sizes = [float(size) for size in header.get_zooms()[:3]]
    unit = unit_nm({"mm": "mm", "meter": "m", "micron": "um"}.get(header.get_xyzt_units()[0]))
    sizes_nm = likely_nm(sizes, unit)
    names, more = _AXES[: len(proxy.shape)], len(proxy.shape) - len(sizes)
    stack = array_stack(array, str(path), title, names, sizes_nm and [*sizes_nm, *[np.nan] * more])
    is_stated = header["qform_code"] > 0 or header["sform_code"] > 0
    orientation = orientation_of(nibabel.aff2axcodes(image.affine), image.affine[:3, 3]) if is_stated else ""
    return dataclasses.replace(stack, orientation=orientation)


class _Proxy:
    """nibabel's lazy array with the type of its values."""

    def __init__(self, proxy: Any, dtype: np.dtype):
        self.shape, self.dtype, self._proxy = proxy.shape, dtype, proxy

    def __getitem__(self, index: tuple) -> np.ndarray:
        return np.asarray(self._proxy[index])
