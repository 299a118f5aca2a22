"""NRRD, the format of 3D Slicer and ITK, by pynrrd."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from dualrel_jax.data.io.readers.base import CONVERT, ReadOnce, Stack, array_stack, orientation_of
from dualrel_jax.data.io.voxel import likely_nm, unit_nm
from dualrel_jax.utils.libraries import load_library

SUFFIXES = (".nrrd", ".nhdr")
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
_CODE = {name: code for code, names in _TYPES.items() for name in names}
_OPPOSITE = dict(zip("LRAPSI", "RLPAIS", strict=True))
_SPATIAL = ("domain", "space")


def read_nrrd(path: Path) -> Stack:
    """The image as it is stored: memory-mapped where it is raw in this very file, else read whole at its first use.

    NRRD counts x, y, z: `volume[z, y, x]` is its voxel (x, y, z). Space directions give the voxel size alone; the image
    is not turned or mirrored by them.

    Voxel size by `space directions` and `space units`, or by `spacings` and `units`. Three ones are what programs write
    that know no size; where the unit is not stated, that of nm, µm and mm which is likely for electron microscopy.

    Raises:
        InputError: values that are no numbers, or more axes than z, y and x.
    """
    nrrd = load_library("nrrd", "pynrrd", str(path), CONVERT)
    with open(path, "rb") as file:
        header = nrrd.read_header(file)
        offset = file.tell()
    shape = tuple(int(size) for size in header["sizes"])[::-1]
    dtype = np.dtype(_CODE.get(str(header["type"]).lower(), "V1"))
    dtype = dtype.newbyteorder("<" if header.get("endian", "little").lower() == "little" else ">")
    elsewhere = {"data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip"} & header.keys()
    array: Any
    if header["encoding"].lower() == "raw" and not elsewhere:
        array, title = np.memmap(path, dtype, "r", offset, shape), "NRRD, memory-mapped"
    else:
        array = ReadOnce(lambda: nrrd.read(str(path), index_order="C")[0], shape, dtype)
        title = f"NRRD, {header['encoding']}, read whole"
    sizes = _sizes_nm(header, len(shape))
    stack = array_stack(array, str(path), title, _axis_names(header, len(shape)), sizes)
    return dataclasses.replace(stack, orientation=_orientation(header))


def _axis_names(header: dict[str, Any], count: int) -> list[str]:
    """Slowest first; the axes of space are x, y, z from the fastest on, others are channels."""
    kinds = [str(kind).lower() for kind in header.get("kinds") or []]
    spatial = [kind in _SPATIAL for kind in kinds] if any(kind in _SPATIAL for kind in kinds) else [True] * count
    letters = iter("xyz")
    return [next(letters, "?") if inside else "c" for inside in spatial][::-1]


def _orientation(header: dict[str, Any]) -> str:
    """Where x, y and z lead in a patient; "" where the file does not state it."""
    space = str(header.get("space", "")).upper().removesuffix("-TIME")
    towards = [word[:1] for word in (space.split("-") if "-" in space else space)]  # "left-posterior-superior" or "LPS"
    rows = [np.array(row, float) for row in header.get("space directions", ()) if row is not None]
    rows = [row for row in rows if row.size == len(towards) == 3 and np.isfinite(row).all() and row.any()]
    if len(rows) != 3 or not set(towards) <= set(_OPPOSITE):
        return ""
    largest = [(row[axis], towards[axis]) for row in rows for axis in [int(np.argmax(abs(row)))]]
    codes = [letter if step > 0 else _OPPOSITE[letter] for step, letter in largest]
    return orientation_of(codes, np.nan_to_num(np.array(header.get("space origin", 0), float)))


def _sizes_nm(header: dict[str, Any], count: int) -> list[float] | None:
    """Of a voxel along each axis, slowest first; nan where unknown."""
    directions = header.get("space directions")
    if directions is not None:
        rows = [np.array([np.nan] if row is None else row, float) for row in directions]
        sizes = [float(np.linalg.norm(row)) for row in rows]
        units = header.get("space units") or [""]
        # Each axis of the image lies mostly along one of space.
        unit_of = [units[int(np.nanargmax(abs(row))) % len(units)] if np.isfinite(row).any() else "" for row in rows]
    elif header.get("spacings") is not None:
        sizes = [float(size) for size in header["spacings"]]
        unit_of = list(header.get("units") or [""] * count)
    else:
        return None
    stated = [unit_nm(str(unit).strip('"')) for unit in unit_of]
    if all(unit is None for unit in stated):
        spatial = [i for i, size in enumerate(sizes) if np.isfinite(size)][:3]
        likely = likely_nm([sizes[i] for i in spatial], None)
        by_axis = dict(zip(spatial, likely or [], strict=False))
        return [by_axis.get(i, np.nan) for i in range(count)][::-1]
    return [size * (unit or np.nan) for size, unit in zip(sizes, stated, strict=True)][::-1]
