"""Chunked arrays in a folder: zarr 2, zarr 3 and n5, through tensorstore."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from dualrel_jax.data.io.readers.base import Stack, array_stack
from dualrel_jax.data.io.readers.metadata import Metadata
from dualrel_jax.errors import InputError

SUFFIXES = (".zarr", ".n5")
_FILES = {"zarr.json": "zarr3", ".zarray": "zarr", ".zgroup": "zarr", ".zattrs": "zarr", "attributes.json": "n5"}
_TITLES = {"zarr3": "zarr 3", "zarr": "zarr 2", "n5": "n5"}
_CACHE_BYTES = 512 << 20  # a chunk of 64 slices is decoded once, not for each of them, in blocks of 2048 x 2048
_LEVEL_0 = ("s0", "0", "scale0")


def is_chunked(folder: Path) -> bool:
    """Whether a folder is an array or a group of one of these formats."""
    inside = any(part.endswith(SUFFIXES) for part in folder.parts)
    return inside or any((folder / name).exists() for name in _FILES)


def read_chunked(folder: Path, inner: str | None = None) -> Stack:
    """An array, or a group with one array or with a pyramid, of which level 0 is taken; `inner` is a path inside.

    Raises:
        InputError: no array or several, an unknown codec, or not one stack.
    """
    target = folder / inner.strip("/") if inner else folder
    arrays = _arrays(target) if target.is_dir() else []
    if len(arrays) != 1:
        problem = f"holds {len(arrays)} arrays; expected one" if target.is_dir() else f"has no array {inner}"
        within = arrays or _arrays(folder, levels=True)
        names = ", ".join(sorted(array.relative_to(folder).as_posix() for array in within)) or "none"
        raise InputError(f"{folder}: {problem}: name it as {folder}:NAME; the folder has {names}")
    array, path = arrays[0], f"{folder}:{inner}" if inner else str(folder)
    driver = _driver(array)
    store, names = _open(array, driver, path)
    metadata = _metadata(array, driver, store.shape, names, path)
    within = array.relative_to(folder).as_posix()
    title = _TITLES[driver] + (f", {within}" if within != "." else "")
    return array_stack(store, path, title, metadata.axis_names(), metadata.sizes_nm())


def _arrays(folder: Path, levels: bool = False, above: tuple[Path, ...] = ()) -> list[Path]:
    """The arrays in a folder, each once; of a pyramid level 0 only, unless `levels`. Label images are left out.

    `above` are the folders that hold it: a link may lead back to one of them.
    """
    if _driver(folder):
        return [folder]
    images = _attributes(folder).get("multiscales") or []
    first = [image["datasets"][0]["path"] for image in images[:1] if image.get("datasets")]
    for name in (*first, *_LEVEL_0):
        if not levels and _driver(folder / name):
            return [folder / name]
    arrays: dict[Path, Path] = {}
    inside = sorted(folder.iterdir()) if folder.resolve() not in above else []
    for child in inside:
        if child.is_dir() and not (images and child.name == "labels"):
            for array in _arrays(child, levels, (*above, folder.resolve())):
                arrays.setdefault(array.resolve(), array)
    return list(arrays.values())


def _open(array: Path, driver: str, path: str) -> tuple[Any, list[str]]:
    """The array, slowest axis first, and the names of its axes; "" where it has none."""
    import tensorstore as ts

    spec = {"driver": driver, "kvstore": {"driver": "file", "path": f"{array}/"}, "recheck_cached_data": "open"}
    context = ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})
    try:
        store = ts.open(spec, context=context, open=True, read=True).result()
    except ValueError as error:
        if not re.search(r"codec|compressor|compression|filters", str(error)):
            raise
        return _open_with_zarr(array, driver, path, error)
    store = store.T if driver == "n5" else store  # n5 counts x y z
    # Level 2 may begin elsewhere than at 0.
    return store[ts.d[:].translate_to[0]], list(store.domain.labels)


def _open_with_zarr(array: Path, driver: str, path: str, error: ValueError) -> tuple[Any, list[str]]:
    """By zarr-python, whose numcodecs knows codecs that tensorstore does not."""
    codec = _codec(_attributes(array))
    if driver == "n5":
        raise InputError(
            f"{path}: no decoder for its compression {codec} is known; expected raw, gzip, bzip2, xz, blosc or zstd: "
            "save it again with one of these"
        ) from error
    try:
        import zarr

        store = zarr.open_array(str(array), mode="r")
        store[tuple(slice(0, 1) for _ in store.shape)]
    except ImportError as missing:
        raise InputError(
            f"{path}: no decoder for its compression {codec} is installed; expected blosc, zstd, gzip or none: run "
            "`pip install zarr`, or save it again with one of these"
        ) from missing
    except Exception as unknown:  # each codec has its own
        raise InputError(
            f"{path}: no decoder for its compression {codec} is installed ({str(unknown).splitlines()[0][:150]}); "
            "expected blosc, zstd, gzip or none: save it again with one of these"
        ) from unknown
    names = getattr(store.metadata, "dimension_names", None)
    return _Indexed(store), list(names or [""] * store.ndim)


def _codec(attributes: dict[str, Any]) -> str:
    """Names of what encodes the chunks, as in 'lz4 after delta'."""
    entries = attributes.get("codecs") or [attributes.get("compressor") or attributes.get("compression")]
    entries = [*entries, *(attributes.get("filters") or [])]
    names = [str(entry.get("id") or entry.get("type") or entry.get("name")) for entry in entries if entry]
    return " after ".join(name for name in names if name != "bytes")


class _Indexed:
    """A zarr-python array, with what `array_stack` asks of an array."""

    def __init__(self, store: Any):
        self.shape, self.dtype, self._store = store.shape, np.dtype(store.dtype), store

    def __getitem__(self, index: tuple) -> np.ndarray:
        return self._store[index]


def _attributes(folder: Path) -> dict[str, Any]:
    """All metadata of a folder, of whichever format, in one dictionary."""
    merged: dict[str, Any] = {}
    for name in _FILES:
        if (folder / name).is_file():
            merged |= json.loads((folder / name).read_text(encoding="utf-8"))
    merged |= merged.get("attributes", {})
    return merged | merged.get("ome", {})


def _driver(folder: Path) -> str | None:
    """The tensorstore driver of an array; None where the folder is no array."""
    if (folder / ".zarray").is_file():
        return "zarr"
    attributes = _attributes(folder)
    if attributes.get("node_type") == "array":
        return "zarr3"
    return "n5" if "blockSize" in attributes and "dimensions" in attributes else None


def _metadata(array: Path, driver: str, shape: tuple[int, ...], names: list[str], path: str) -> Metadata:
    # A link to a level has another parent than the level.
    places = [array, array.resolve()] if array.resolve() != array.absolute() else [array]
    best = None
    for place in places:
        groups = [place.parent, place.parent.parent]
        attributes = tuple(_attributes(folder) for folder in (array, *groups))
        inner = tuple(place.relative_to(group).as_posix() for group in groups)
        full = _level_0_shape(place, driver, len(shape))
        metadata = Metadata(path, tuple(shape), attributes, inner, driver == "n5", names, full)
        if best is None or (best.sizes_nm() is None and metadata.sizes_nm() is not None):
            best = metadata
    return best


def _level_0_shape(array: Path, driver: str, ndim: int) -> tuple[int, ...] | None:
    """Shape of level 0 beside this level of a pyramid, slowest axis first."""
    if not re.fullmatch(r"(s|scale)?\d+", array.name):
        return None
    for name in _LEVEL_0:
        folder = array.parent / name
        if re.sub(r"\d+", "", name) == re.sub(r"\d+", "", array.name) and _driver(folder) == driver:
            attributes = _attributes(folder)
            shape = attributes.get("dimensions", [])[::-1] if driver == "n5" else attributes.get("shape", [])
            return tuple(shape) if len(shape) == ndim else None
    return None
