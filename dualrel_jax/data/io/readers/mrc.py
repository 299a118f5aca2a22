"""MRC, the format of IMOD, SerialEM and cryo electron microscopy, by mrcfile."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from dualrel_jax.data.io.readers.base import CONVERT, Stack, array_stack
from dualrel_jax.data.io.voxel import unit_nm
from dualrel_jax.utils.libraries import load_library

SUFFIXES = (".mrc", ".rec", ".st", ".map", ".mrc.gz", ".mrc.bz2")
_IMOD = 1146047817  # the stamp of IMOD, byte 152 of the header; its flags follow
_EXTRA_AT = 112  # where `extra2` begins
_SIGNED = 1


def read_mrc(path: Path) -> Stack:
    """Sections, rows, columns as they are stored, memory-mapped; a compressed file is read whole.

    MRC programs draw the first row at the bottom. The volume has it at the top, as in the file: masks saved as MRC fit,
    and a TIFF that such a program exported has its rows the other way round.

    Voxel size by the cell dimensions, in angstrom. Bytes are signed by the standard, and unsigned where IMOD states it.
    """
    mrcfile = load_library("mrcfile", "mrcfile", str(path), CONVERT)
    compressed = path.name.lower().endswith((".gz", ".bz2"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of headers that other programs wrote carelessly
        file = (mrcfile.open if compressed else mrcfile.mmap)(str(path), mode="r", permissive=True)
    if file.data is None:
        raise ValueError("its header and its size do not fit an image")
    data, header = file.data, file.header
    if data.dtype == np.int8 and _imod_bytes_are_unsigned(header):
        data = data.view(np.uint8)
    names, sizes = None, None
    if data.ndim <= 3:
        order = [int(header[key]) for key in ("mapc", "mapr", "maps")]
        order = order if sorted(order) == [1, 2, 3] else [1, 2, 3]
        names = ["xyz"[axis - 1] for axis in order][: data.ndim][::-1]
        sizes = [_size_nm(header, name, len(data) if data.ndim == 3 and axis == 0 else 0)
                 for axis, name in enumerate(names)]  # fmt: skip
    return array_stack(data, str(path), f"MRC, {'read whole' if compressed else 'memory-mapped'}", names, sizes)


def _size_nm(header: Any, axis: str, sections: int) -> float:
    """Of a voxel along x, y or z; nan where the header does not state it, as of a stack of single images along z."""
    samples, length = int(header[f"m{axis}"]), float(header.cella[axis])
    alone = axis == "z" and samples == 1 < sections
    return np.nan if samples <= 0 or length <= 0 or alone else unit_nm("angstrom") * length / samples


def _imod_bytes_are_unsigned(header: Any) -> bool:
    at = 152 - _EXTRA_AT
    stamp, flags = np.frombuffer(header.extra2.tobytes()[at : at + 8], header.nx.dtype)
    return stamp == _IMOD and not flags & _SIGNED
