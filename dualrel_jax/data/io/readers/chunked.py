"""Chunked arrays in a folder, an object store or on a web server: zarr 2, zarr 3 and n5, through tensorstore."""

import contextlib
import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dualrel_jax.data.io.pyramid import FINEST, Level, LevelChoice, choose_level, scaled
from dualrel_jax.data.io.readers.attributes import FILES, Folder, attributes_of, driver_of
from dualrel_jax.data.io.readers.axes import along, find_axes, fixed_channel, split_channel
from dualrel_jax.data.io.readers.base import Stack, array_stack
from dualrel_jax.data.io.readers.metadata import Metadata
from dualrel_jax.data.io.remote import RemotePath, context_spec, kvstore_spec, store_errors
from dualrel_jax.data.io.voxel import voxel_of
from dualrel_jax.errors import InputError
from dualrel_jax.utils.text import format_shape

SUFFIXES = (".zarr", ".n5")
_TITLES = {"zarr3": "zarr 3", "zarr": "zarr 2", "n5": "n5"}
# A chunk of 64 slices is decoded once, not for each of them, in blocks of 2048 x 2048 with their surroundings.
_CACHE_BYTES, _MOST_CACHE_BYTES, _CACHED_SIDE = 512 << 20, 2 << 30, 2304
_LEVEL_0 = ("s0", "0", "scale0")


def is_chunked(folder: Folder) -> bool:
    """Whether a folder is an array or a group of one of these formats."""
    inside = any(part.endswith(SUFFIXES) for part in folder.parts)
    return inside or any((folder / name).exists() for name in FILES)


def read_chunked(folder: Folder, inner: str | None = None, choice: LevelChoice = FINEST) -> Stack:
    """An array, or a group with one array or with a pyramid, of which `choice` picks a level.

    `inner` is a path inside, or a channel, or both: "0:Channel 1".

    An array that is named itself is read whatever `choice` asks for.

    Raises:
        InputError: no array or several, no such level or channel, an unknown codec, or not one stack.
    """
    array_name, channel = split_channel(inner)
    if channel is not None and (folder / inner).exists():
        channel = None  # a group or an array of that name
    else:
        inner = array_name
    target = folder / inner.strip("/") if inner else folder
    target = _only_image(target)
    arrays = _arrays(target) if target.is_dir() else []
    if len(arrays) != 1:
        raise _not_one_array(folder, inner, target, arrays)
    array, path = arrays[0], f"{folder}:{inner}" if inner else str(folder)
    level, reason = (None, "") if driver_of(target) else _choose_level(array, choice, path, channel)
    if level is not None and level.index:
        array = _level_folders(array)[level.index]
        path = f"{folder}:{array.relative_to(folder).as_posix()}"
    driver = driver_of(array)
    store, names = _open(array, driver, path)
    metadata = _metadata(array, driver, store.shape, names, path)
    within = array.relative_to(folder).as_posix()
    title = _TITLES[driver] + (f", {within}" if within != "." else "")
    origin_nm = metadata.offsets_nm()
    names = metadata.axis_names()
    fixed = fixed_channel(store.shape, names, channel, path)
    stack = array_stack(store, path, title, names, metadata.sizes_nm(), origin_nm=origin_nm, fixed=fixed)
    path += f":Channel {channel}" if fixed else ""
    if level is not None:
        stack = dataclasses.replace(stack, voxel_nm=level.voxel_nm, origin_nm=level.origin_nm)
    return dataclasses.replace(stack, path=path, level=level, level_reason=reason)


def _only_image(folder: Folder) -> Folder:
    """The image in a container of bioformats2raw, which may hold many; any other folder itself."""
    if "bioformats2raw.layout" not in attributes_of(folder):
        return folder
    listed = attributes_of(folder / "OME").get("series") or []
    images = {str(name): attributes_of(folder / str(name)) for name in listed}
    while not listed and (attributes := attributes_of(folder / str(len(images)))).get("multiscales"):
        images[str(len(images))] = attributes
    if len(images) == 1:
        return folder / next(iter(images))
    if not images:
        return folder
    titles = [(name, (entry.get("multiscales") or [{}])[0].get("name")) for name, entry in images.items()]
    names = ", ".join(f"{name} ({title})" if title else name for name, title in titles)
    raise InputError(
        f"{folder}: holds {len(images)} images; expected one: name it as {folder}:NAME; the container has {names}"
    )


def _not_one_array(folder: Folder, inner: str | None, target: Folder, arrays: list[Folder]) -> InputError:
    if isinstance(folder, RemotePath) and not arrays:
        target.check_access()
        return InputError(
            f"{target}: holds no zarr or n5 array that can be found; expected one: check the address, and name an "
            f"array inside a group by {folder}:NAME"
        )
    problem = f"holds {len(arrays)} arrays; expected one" if target.is_dir() else f"has no array {inner}"
    within = arrays or _arrays(folder, levels=True)
    names = ", ".join(sorted(array.relative_to(folder).as_posix() for array in within)) or "none"
    return InputError(f"{folder}: {problem}: name it as {folder}:NAME; the folder has {names}")


# ---- levels of a pyramid


def _level_folders(array: Folder) -> dict[int, Folder]:
    """Number -> level that is there, finest first, of the pyramid whose level 0 is `array`; only itself without one."""
    for group, name in ((array.parent, array.name), (array.parent.parent, f"{array.parent.name}/{array.name}")):
        for image in attributes_of(group).get("multiscales") or []:
            names = [level["path"] for level in image["datasets"]]
            if names and names[0] == name:
                return {i: group / inside for i, inside in enumerate(names) if driver_of(group / inside)}
    folders = {0: array}
    if array.name in _LEVEL_0:
        while driver_of(following := array.parent / f"{array.name[:-1]}{len(folders)}"):
            folders[len(folders)] = following
    return folders


def _choose_level(array: Folder, choice: LevelChoice, path: str, channel: int | None) -> tuple[Level | None, str]:
    """(level, reason) in the pyramid whose level 0 is `array`; (None, "") where it has only one."""
    folders = _level_folders(array)
    if len(folders) == 1:
        return choose_level([], choice, path) if choice.level not in ("auto", "0") else (None, "")
    layouts = {i: _layout(folder, path, channel) for i, folder in folders.items()}
    for i, layout in layouts.items():
        if any(own > full for own, full in zip(layout.shape, layouts[0].shape, strict=True)):
            raise InputError(
                f"{path}: its level {i} has {format_shape(layout.shape)} voxels, and level 0 "
                f"{format_shape(layouts[0].shape)}; expected levels from fine to coarse: put the datasets of its "
                f"multiscales in this order, or name one as {path}:NAME"
            )
    level, reason = choose_level([_level(i, layout, layouts) for i, layout in layouts.items()], choice, path)
    stated = voxel_of(layouts[level.index].sizes_nm)
    if stated and any(a != b for a, b in zip(stated, level.voxel_nm, strict=True) if not math.isnan(a)):
        sizes = format_shape(f"{size:g}" for size in stated)
        reason += f" (it states voxels of {sizes} nm, which contradicts its shape)"
    return level, reason


class _Layout(NamedTuple):
    """An array as its metadata describe it, z y x; nan where something is unknown."""

    shape: tuple[int, int, int]
    sizes_nm: tuple[float, float, float]
    origin_nm: tuple[float, float, float] | None  # None: not stated
    strided: bool  # made by leaving out voxels instead of averaging them


def _layout(array: Folder, path: str, channel: int | None) -> _Layout:
    driver, attributes = driver_of(array), attributes_of(array)
    shape = attributes["dimensions"][::-1] if driver == "n5" else attributes["shape"]
    metadata = _metadata(array, driver, tuple(shape), [], path)
    names = metadata.axis_names()
    fixed = fixed_channel(shape, names, channel, path)
    shape = [1 if axis in fixed else length for axis, length in enumerate(shape)]
    axes = find_axes(shape, names, path)
    sizes, origin = metadata.sizes_nm(), metadata.offsets_nm()
    return _Layout(
        tuple(1 if axis is None else shape[axis] for axis in axes),
        along(axes, sizes, names) if sizes else (math.nan,) * 3,
        along(axes, origin, names) if origin else None,
        metadata.is_strided(),
    )


def _level(index: int, layout: _Layout, layouts: dict[int, _Layout]) -> Level:
    full = layouts[0]
    factors, shifts, contradicts = [], [], False
    for axis in range(3):
        by_shape = float(round(full.shape[axis] / layout.shape[axis]))
        by_size = layout.sizes_nm[axis] / full.sizes_nm[axis]
        # Short axes are rounded, or padded. Never with nan.
        agrees = abs(by_size / by_shape - 1) < 0.5 or abs(full.shape[axis] / by_size - layout.shape[axis]) <= 1
        factor = by_size if by_size >= 1 and agrees else by_shape
        contradicts |= by_size > 0 and factor != by_size
        whole = float(round(factor))
        factors.append(whole if abs(factor - whole) < 0.01 else factor)
        stated = math.nan
        if layout.origin_nm is not None and full.origin_nm is not None and (any(layout.origin_nm) or layout.strided):
            stated = (layout.origin_nm[axis] - full.origin_nm[axis]) / full.sizes_nm[axis]
        # Where nothing is stated voxels are averages: the field of view is that of level 0.
        shifts.append((factors[-1] - 1) / 2 if math.isnan(stated) else stated)
    voxel_nm = voxel_of(layout.sizes_nm)
    if (voxel_nm is None or contradicts) and (full_nm := voxel_of(full.sizes_nm)) is not None:
        voxel_nm = scaled(full_nm, factors)
    first = full.origin_nm or (0.0,) * 3
    moved = (at + shift * size for at, shift, size in zip(first, shifts, full.sizes_nm, strict=True))
    origin_nm = tuple(0.0 if math.isnan(at) else at for at in moved)
    shapes = layout.shape, full.shape
    return Level(index, max(layouts), *shapes, tuple(factors), tuple(shifts), voxel_nm, origin_nm)


# ---- arrays and their metadata


def _arrays(folder: Folder, levels: bool = False, above: tuple[Path, ...] = ()) -> list[Folder]:
    """The arrays in a folder, each once; of a pyramid level 0 only, unless `levels`. Label images are left out.

    `above` are the folders that hold it: a link may lead back to one of them.
    """
    if driver_of(folder):
        return [folder]
    images = attributes_of(folder).get("multiscales") or []
    first = [image["datasets"][0]["path"] for image in images[:1] if image["datasets"]]
    for name in (*first, *_LEVEL_0):
        if not levels and driver_of(folder / name):
            return [folder / name]
    if isinstance(folder, RemotePath):
        return _listed_arrays(folder, levels)
    arrays: dict[Path, Path] = {}
    inside = sorted(folder.iterdir()) if folder.resolve() not in above else []
    for child in inside:
        if child.is_dir() and not (images and child.name == "labels"):
            for array in _arrays(child, levels, (*above, folder.resolve())):
                arrays.setdefault(array.resolve(), array)
    return list(arrays.values())


def _listed_arrays(folder: RemotePath, levels: bool) -> list[RemotePath]:
    """The arrays that consolidated metadata list: a store is not searched, it may hold millions of objects."""
    files = folder.read_files([".zmetadata", "zarr.json"])
    listed = json.loads(files[".zmetadata"])["metadata"] if ".zmetadata" in files else {}
    names = [key.removesuffix("/.zarray") for key in listed if key.endswith("/.zarray")]
    inside = (attributes_of(folder).get("consolidated_metadata") or {}).get("metadata") or {}
    names += [key for key, entry in inside.items() if entry.get("node_type") == "array"]
    finest = [name for name in names if not re.fullmatch(r"(s|scale)?[1-9]\d*", name.rpartition("/")[2])]
    return [folder / name for name in sorted(names if levels else finest) if "labels" not in name.split("/")]


def _open(array: Folder, driver: str, path: str) -> tuple[Any, list[str]]:
    """The array, slowest axis first, and the names of its axes; "" where it has none."""
    import tensorstore as ts

    remote = isinstance(array, RemotePath)
    spec = {"driver": driver, "kvstore": kvstore_spec(array), "recheck_cached_data": "open"}

    def opened(cache_bytes: int) -> Any:
        context = ts.Context({"cache_pool": {"total_bytes_limit": cache_bytes}} | (context_spec() if remote else {}))
        return ts.open(spec, context=context, open=True, read=True).result()

    try:
        store = opened(_CACHE_BYTES)
        if (needed := _layer_bytes(store, driver)) > _CACHE_BYTES:
            store = opened(min(needed, _MOST_CACHE_BYTES))
    except ValueError as error:
        if not re.search(r"codec|compressor|compression|filters", str(error)):
            with store_errors(path) if remote else contextlib.nullcontext():
                raise
        if remote:
            raise InputError(
                f"{path}: no decoder for its compression {_codec(attributes_of(array))} is known; expected blosc, "
                "zstd, gzip or none: copy the store to this machine, where the package zarr can read it, or save "
                "it again"
            ) from error
        return _open_with_zarr(array, driver, path, error)
    store = store.T if driver == "n5" else store  # n5 counts x y z
    # Level 2 may begin elsewhere than at 0.
    return store[ts.d[:].translate_to[0]], list(store.domain.labels)


def _layer_bytes(store: Any, driver: str) -> int:
    """Of the chunks that one slice of a block reads, if the last axes are y and x, of n5 the first."""
    order = -1 if driver == "n5" else 1
    shape, chunk = (values[::order] for values in (store.shape, store.chunk_layout.read_chunk.shape))
    counts = [-(-min(n, _CACHED_SIDE) // side) + 1 for n, side in zip(shape[-2:], chunk[-2:], strict=True)]
    return math.prod(counts) * math.prod(chunk) * store.dtype.numpy_dtype.itemsize


def _open_with_zarr(array: Path, driver: str, path: str, error: ValueError) -> tuple[Any, list[str]]:
    """By zarr-python, whose numcodecs knows codecs that tensorstore does not."""
    codec = _codec(attributes_of(array))
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


def _metadata(array: Folder, driver: str, shape: tuple[int, ...], names: list[str], path: str) -> Metadata:
    # A link to a level has another parent than the level.
    places = [array, array.resolve()] if array.resolve() != array.absolute() else [array]
    best = None
    for place in places:
        groups = [place.parent, place.parent.parent]
        attributes = tuple(attributes_of(folder) for folder in (array, *groups))
        inner = tuple(place.relative_to(group).as_posix() for group in groups)
        full = _level_0_shape(place, driver, len(shape))
        metadata = Metadata(path, tuple(shape), attributes, inner, driver == "n5", names, full)
        if best is None or (best.sizes_nm() is None and metadata.sizes_nm() is not None):
            best = metadata
    return best


def _level_0_shape(array: Folder, driver: str, ndim: int) -> tuple[int, ...] | None:
    """Shape of level 0 beside this level of a pyramid, slowest axis first."""
    if not re.fullmatch(r"(s|scale)?\d+", array.name):
        return None
    for name in _LEVEL_0:
        folder = array.parent / name
        if re.sub(r"\d+", "", name) == re.sub(r"\d+", "", array.name) and driver_of(folder) == driver:
            attributes = attributes_of(folder)
            shape = attributes.get("dimensions", [])[::-1] if driver == "n5" else attributes.get("shape", [])
            return tuple(shape) if len(shape) == ndim else None
    return None
