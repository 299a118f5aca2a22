"""Single arrays in one file: NumPy and HDF5."""

from pathlib import Path

import numpy as np

from dualrel_jax.data.io.readers.base import Source, array_source, voxel_of
from dualrel_jax.errors import InputError
from dualrel_jax.utils.text import format_shape

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")


def read_npy(path: Path) -> Source:
    """Memory-mapped."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array_source(array, str(path), None, "NumPy array, memory-mapped")


def read_hdf5(path: Path, dataset: str | None) -> Source:
    """`dataset` may be None where the file holds one 3-D data set.

    Voxel size: the data set's attribute `element_size_um` (ilastik) or `resolution` (CREMI, nm), both z y x.
    """
    import h5py

    # The default cache of 1 MiB would decode a chunk again for each of its slices, and its 521 slots are too few.
    file = h5py.File(path, "r", rdcc_nbytes=512 << 20, rdcc_nslots=100_003)
    found: dict[str, tuple[int, ...]] = {}
    file.visititems(lambda name, item: found.update({name: item.shape} if isinstance(item, h5py.Dataset) else {}))
    stacks = [name for name, shape in found.items() if len(shape) == 3]
    chosen = dataset.strip("/") if dataset else stacks[0] if len(stacks) == 1 else None
    if chosen not in found:
        names = ", ".join(f"{name} ({format_shape(shape)})" for name, shape in found.items()) or "none"
        problem = f"has no data set {dataset}" if dataset else f"has {len(stacks)} 3-D data sets; expected one"
        raise InputError(f"{path}: {problem}: name it as {path.name}:NAME; the file holds {names}")
    attributes = file[chosen].attrs
    sizes = attributes.get("resolution", (0, 0, 0))
    if "element_size_um" in attributes:
        sizes = 1e3 * np.asarray(attributes["element_size_um"])
    return array_source(file[chosen], f"{path}:{chosen}", voxel_of(np.ravel(sizes)[-3:]), f"HDF5, {chosen}")
