"""Single arrays in one file: NumPy and HDF5."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from dualrel_jax.data.io.readers.axes import fixed_channel, letters, split_channel
from dualrel_jax.data.io.readers.base import Stack, array_stack
from dualrel_jax.data.io.readers.metadata import Metadata
from dualrel_jax.data.io.voxel import unit_nm
from dualrel_jax.errors import InputError
from dualrel_jax.utils.text import format_shape

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
_PLUGINS = {32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp", 32015: "zstd", 32026: "blosc2"}


def read_npy(path: Path) -> Stack:
    """Memory-mapped."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array_stack(array, str(path), "NumPy array, memory-mapped")


def read_hdf5(path: Path, inner: str | None) -> Stack:
    """The data set `inner`, or the only one with three axes or more, and of it one channel; links are followed.

    Axes by dimension labels or scales, or by vigra's axistags (ilastik). Voxel size by the attribute `element_size_um`
    (z y x; ilastik, Fiji), axistags, `resolution` (nm; CREMI) or what N5 programs write.

    Raises:
        InputError: no such data set or channel, several, a broken link, an unknown filter, or not one stack.
    """
    import h5py

    # The default cache of 1 MiB would decode a chunk again for each of its slices, and its 521 slots are too few.
    file = h5py.File(path, "r", rdcc_nbytes=512 << 20, rdcc_nslots=100_003)
    inner, channel = (inner, None) if inner and inner in file else split_channel(inner)
    name = inner.strip("/") if inner else ""
    _check_link(file, name, path)
    target = file.get(name) if name else file
    datasets = _datasets(target, name) if target is not None else {}
    stacks = [key for key, dataset in datasets.items() if dataset.ndim >= 3] or list(datasets)
    if len(stacks) != 1:
        listed = datasets or _datasets(file, "")
        names = ", ".join(f"{key} ({format_shape(dataset.shape)})" for key, dataset in listed.items()) or "none"
        problem = f"has {len(stacks)} 3-D data sets; expected one" if target is not None else f"has no data set {inner}"
        raise InputError(f"{path}: {problem}: name it as {path.name}:NAME; the file holds {names}")
    dataset, label = datasets[stacks[0]], f"{path}:{stacks[0]}"
    _check_filters(dataset, label)
    _check_sources(dataset, path, label)
    parents = dataset.parent, dataset.parent.parent
    inside = dataset.name.rsplit("/", 2)[-2:]
    metadata = Metadata(
        label,
        dataset.shape,
        tuple(_attributes(item) for item in (dataset, *parents)),
        (inside[-1], "/".join(inside)),
        names=_axis_names(dataset, label),
    )
    names = metadata.axis_names()
    sizes, fixed = _sizes_nm(dataset, names) or metadata.sizes_nm(), fixed_channel(dataset.shape, names, channel, label)
    return array_stack(dataset, label, f"HDF5, {stacks[0]}", names, sizes, fixed=fixed)


def _datasets(item: Any, name: str, above: tuple = ()) -> dict[str, Any]:
    """Name -> data set of all below an item, each once, through soft and external links; broken links are left out.

    `above` are the groups that hold the item: a link may lead back to one of them.
    """
    import h5py

    if isinstance(item, h5py.Dataset):
        return {name: item} if item.shape is not None and not item.is_scale else {}
    datasets: dict[str, Any] = {}
    for key in item if isinstance(item, h5py.Group) and item not in above else ():
        child = item.get(key)
        if child is not None:
            below = _datasets(child, f"{name}/{key}".strip("/"), (*above, item))
            datasets |= {key: value for key, value in below.items() if value not in datasets.values()}
    return datasets


def _check_link(file: Any, name: str, path: Path) -> None:
    """Raises InputError where a part of the name is a link to what does not exist."""
    import h5py

    parts = name.split("/") if name else []
    for length in range(1, len(parts) + 1):
        key = "/".join(parts[:length])
        link = file.get(key, getlink=True)
        if isinstance(link, h5py.SoftLink | h5py.ExternalLink) and file.get(key) is None:
            target = f"{link.filename}:{link.path}" if isinstance(link, h5py.ExternalLink) else link.path
            raise InputError(
                f"{path}:{key}: is a link to {target}, which cannot be read; expected it there, seen from the folder "
                "of the link: copy that file as well, or name the data itself"
            )


def _check_filters(dataset: Any, label: str) -> None:
    """Raises InputError where a filter of the data set is neither built in nor among the plugins of hdf5plugin."""
    import h5py

    plist = dataset.id.get_create_plist()
    for i in range(plist.get_nfilters()):
        code, _, _, title = plist.get_filter(i)
        if h5py.h5z.filter_avail(code):
            continue
        try:
            import hdf5plugin  # noqa: F401  registers its filters
        except ImportError:
            pass
        if not h5py.h5z.filter_avail(code):
            title = title.decode(errors="replace").split(";")[0] or "unknown"
            raise InputError(
                f"{label}: no decoder for its compression {_PLUGINS.get(code, title)} (HDF5 filter {code}) is "
                "installed; expected gzip, lzf or none: run `pip install hdf5plugin`, or save it again as gzip"
            )


def _check_sources(dataset: Any, path: Path, label: str) -> None:
    """Raises InputError for a virtual data set of which a file is missing: HDF5 would fill in zeros."""
    for source in dataset.virtual_sources() if dataset.is_virtual else ():
        if source.file_name != "." and not (path.resolve().parent / source.file_name).exists():
            raise InputError(
                f"{label}: is put together from files of which {source.file_name} is missing; expected it in "
                f"{path.parent}: copy that file as well"
            )


def _axis_names(dataset: Any, label: str) -> list[str] | None:
    """From dimension labels or scales, else from axistags."""
    labels = [dim.label or (dim[0].name if len(dim) else "") for dim in dataset.dims]
    tags = _axistags(dataset, label)
    if not any(labels):
        return [str(tag["key"]) for tag in tags] if tags else None
    if tags and letters(labels) != letters([tag["key"] for tag in tags]):
        raise InputError(
            f"{label}: its dimension labels ({' '.join(labels)}) and axistags name different axes; expected one "
            "order: correct them"
        )
    return labels


def _axistags(dataset: Any, label: str) -> list[dict] | None:
    """vigra's description of each axis, in the order of the array: key, resolution, unit."""
    text = dataset.attrs.get("axistags")
    if text is None:
        return None
    try:
        axes = json.loads(text)["axes"]
        keys = [axis["key"] for axis in axes]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{label}: its attribute axistags cannot be read ({error!r}); expected vigra's JSON: export it again"
        ) from error
    if len(keys) != dataset.ndim:
        raise InputError(
            f"{label}: its axistags name {len(keys)} axes ({' '.join(keys)}), but it has {dataset.ndim}; expected as "
            "many: export it again"
        )
    return axes


def _sizes_nm(dataset: Any, names: list[str] | None) -> list[float] | None:
    """Along each axis, by `element_size_um` or axistags."""
    axes = letters(names) if names else ""
    if "element_size_um" in dataset.attrs:
        sizes = 1e3 * np.ravel(dataset.attrs["element_size_um"]).astype(float)
        if len(sizes) == dataset.ndim and sorted(axes) != ["x", "y", "z"]:
            return sizes.tolist()
        order = axes if set("zyx") <= set(axes) else _unnamed(dataset.shape)
        by_letter = dict(zip("zyx", sizes[-3:], strict=False))
        return [by_letter.get(letter, math.nan) for letter in order]
    tags = _axistags(dataset, dataset.name) or []
    sizes = [(unit_nm(tag.get("unit")) or math.nan) * (tag.get("resolution") or math.nan) for tag in tags]
    return None if all(map(math.isnan, sizes)) else sizes


def _unnamed(shape: tuple[int, ...]) -> str:
    """Letters of axes without names: z y x for the last that are longer than 1."""
    long = [axis for axis, length in enumerate(shape) if length > 1][-3:]
    return "".join("zyx"[long.index(axis) - len(long)] if axis in long else "?" for axis in range(len(shape)))


def _attributes(item: Any) -> dict[str, Any]:
    """Attributes as plain Python values; JSON is decoded."""
    return {key: _plain(value) for key, value in item.attrs.items() if key not in ("axistags", "DIMENSION_LIST")}


def _plain(value: Any) -> Any:
    value = value.decode(errors="replace") if isinstance(value, bytes) else value
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str) and value[:1] in "{[" and value:
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
