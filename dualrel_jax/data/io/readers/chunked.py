"""Chunked arrays in a folder: zarr 2, zarr 3 and n5, through tensorstore."""

import json
import os
from pathlib import Path
from typing import Any

from dualrel_jax.data.io.readers.base import Source, Voxel, array_source, unit_nm, voxel_of
from dualrel_jax.errors import InputError

SUFFIXES = (".zarr", ".n5")
_FILES = {"zarr.json": "zarr3", ".zarray": "zarr", ".zgroup": "zarr", ".zattrs": "zarr", "attributes.json": "n5"}
_TITLES = {"zarr3": "zarr 3", "zarr": "zarr 2", "n5": "n5"}
_CACHE_BYTES = 512 << 20  # a chunk of 64 slices is decoded once, not for each of them, in blocks of 2048 x 2048


def is_chunked(folder: Path) -> bool:
    inside = any(part.endswith(SUFFIXES) for part in folder.parts)
    return inside or any((folder / name).exists() for name in _FILES)


def read_chunked(folder: Path) -> Source:
    """An array, or a group with one array or with a pyramid (OME-Zarr, n5 s0, s1, ...), of which level 0 is taken."""
    import tensorstore as ts

    array_folder = folder if _driver(folder) else _array_in(folder)
    driver = _driver(array_folder)
    store = ts.open(
        {"driver": driver, "kvstore": {"driver": "file", "path": f"{array_folder}/"}, "recheck_cached_data": "open"},
        context=ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}}),
        open=True,
        read=True,
    ).result()
    inner = array_folder.relative_to(folder).as_posix()
    title = _TITLES[driver] + (f", {inner}" if inner != "." else "")
    # n5 stores the fastest axis first, x y z.
    return array_source(store.T if driver == "n5" else store, str(folder), _voxel_nm(array_folder, driver), title)


def _attributes(folder: Path) -> dict[str, Any]:
    """All metadata of a folder, of whichever format, in one dictionary."""
    found: dict[str, Any] = {}
    for name in _FILES:
        if (folder / name).is_file():
            found |= json.loads((folder / name).read_text())
    found |= found.get("attributes", {})
    return found | found.get("ome", {})


def _driver(folder: Path) -> str | None:
    """The tensorstore driver of an array; None where the folder is no array."""
    if (folder / ".zarray").is_file():
        return "zarr"
    found = _attributes(folder)
    if found.get("node_type") == "array":
        return "zarr3"
    return "n5" if "blockSize" in found and "dimensions" in found else None


def _array_in(group: Path) -> Path:
    scales = _attributes(group).get("multiscales", [])
    inside = [scale["datasets"][0]["path"] for scale in scales[:1]] or ["s0"]
    if _driver(group / inside[0]):
        return group / inside[0]
    arrays = []
    for folder, children, _ in os.walk(group):
        if _driver(Path(folder)):
            arrays.append(Path(folder))
            children.clear()
    if len(arrays) != 1:
        names = ", ".join(sorted(array.relative_to(group).as_posix() for array in arrays)) or "none"
        raise InputError(f"{group}: holds {len(arrays)} arrays; expected one: name it as {group}/NAME; it has {names}")
    return arrays[0]


def _voxel_nm(array: Path, driver: str) -> Voxel | None:
    """From OME-Zarr's scales, else from the attributes of the array or of its group."""
    for group in (array.parent, array.parent.parent):
        for scales in _attributes(group).get("multiscales", []):
            for level in scales["datasets"]:
                if (group / level["path"]).resolve() == array.resolve() and "coordinateTransformations" in level:
                    return _ome_voxel_nm(scales, level)
    for folder in (array, array.parent):
        found = _attributes(folder)
        pixel = found.get("pixelResolution", {})
        unit, sizes = "nm", found.get("resolution") or found.get("voxel_size") or pixel
        if isinstance(sizes, dict):
            unit, sizes = sizes.get("unit", "nm"), sizes.get("dimensions", [])
        if len(sizes) == 3:
            return voxel_of(size * (unit_nm(unit) or 0) for size in (sizes[::-1] if driver == "n5" else sizes))
    return None


def _ome_voxel_nm(scales: dict[str, Any], level: dict[str, Any]) -> Voxel | None:
    steps = level["coordinateTransformations"] + scales.get("coordinateTransformations", [])
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in scales.get("axes", [])]
    sizes = {axis["name"]: unit_nm(axis.get("unit")) or float("nan") for axis in axes}
    for step in steps:
        if step["type"] == "scale":
            sizes = {name: size * factor for (name, size), factor in zip(sizes.items(), step["scale"], strict=True)}
    return voxel_of(sizes.get(name, float("nan")) for name in "zyx")
