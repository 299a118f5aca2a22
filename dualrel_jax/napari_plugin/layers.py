"""Conversion between volumes and napari layers: arrays, what of them is on screen, and the voxel size as scale."""

import contextlib
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dualrel_jax.data.datasets.own import parse_voxel
from dualrel_jax.data.io.pyramid import LevelChoice
from dualrel_jax.data.io.remote import is_remote
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.data.io.voxel import Voxel, unit_nm, voxel_of
from dualrel_jax.errors import InputError
from dualrel_jax.utils.text import format_shape

_IN_MEMORY_BYTES = 1 << 30  # a larger volume is read slice by slice, as is one at an address
LayerData = tuple[Any, dict[str, Any], str]


class LazyArray:
    """A volume as napari takes an array `z y x`: only the voxels that are asked for are read."""

    def __init__(self, volume: Volume):
        self.volume, self.shape, self.dtype = volume, volume.shape, volume.dtype
        self.ndim, self.size = len(volume.shape), math.prod(volume.shape)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Of whole numbers and slices."""
        index = index if isinstance(index, tuple) else (index,)
        index += (slice(None),) * (self.ndim - len(index))
        chosen = [range(length)[part] for length, part in zip(self.shape, index, strict=True)]
        spans = [
            slice(r, r + 1) if isinstance(r, int) else slice(min(r, default=0), max(r, default=-1) + 1) for r in chosen
        ]
        steps = (0 if isinstance(r, int) else slice(None, None, r.step) for r in chosen)
        return self.volume[tuple(spans)][tuple(steps)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.volume[:], dtype)


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """For napari's File > Open: a function that reads the volume at `path`; None for several files.

    Up to 1 GiB is read into memory. A larger volume, and one at an address, is read where the viewer shows it; of a
    pyramid all levels are there.
    """
    return (lambda path: [_read(path)]) if isinstance(path, str) else None


def _read(path: str) -> LayerData:
    volume = open_volume(path)
    if is_remote(path) or math.prod(volume.shape) * volume.dtype.itemsize > _IN_MEMORY_BYTES:
        coarser = []
        for level in range(1, volume.level.last + 1 if volume.level else 1):
            with contextlib.suppress(InputError):  # a level that is not there
                coarser.append(open_volume(path, verbose=False, choice=LevelChoice(str(level))))
        data = [LazyArray(level) for level in (volume, *coarser)]
        data, attributes, kind = data if coarser else data[0], _attributes(volume), "image"
        return data, attributes | {"multiscale": bool(coarser)}, kind
    return np.array(volume[:]), _attributes(volume), "image"


def phantom_sample() -> list[LayerData]:
    """For napari's File > Open Sample: the test volume of the phantom."""
    from dualrel_jax.data.phantom import phantom

    volume = phantom("phantom", "test")[0]
    return [(np.array(volume[:]), _attributes(volume), "image")]


def _attributes(volume: Volume) -> dict[str, Any]:
    name = (volume.container or volume.path).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return {"name": name, **placement(volume.voxel_nm)}


def placement(voxel_nm: Voxel | None) -> dict[str, tuple]:
    """Scale and units of a layer z y x; an unknown size is 1 pixel."""
    sizes = voxel_nm or (math.nan,) * 3
    units = tuple("pixel" if math.isnan(size) else "nm" for size in sizes)
    return {"scale": tuple(1.0 if math.isnan(size) else size for size in sizes), "units": units}


def place_of(layer: Any) -> dict[str, Any]:
    """Where a layer lies, for another of the same shape."""
    return {key: getattr(layer, key) for key in ("scale", "translate", "units")}


def voxel_of_layer(layer: Any) -> Voxel | None:
    """(z, y, x) in nm from the layer's scale and units: z is nan where its unit is pixel; None where y or x has it."""
    if layer.ndim != 3:
        return None
    sizes_nm = [(unit_nm(unit) or math.nan) * size for unit, size in zip(layer.units, layer.scale, strict=True)]
    return voxel_of(sizes_nm)


def voxel_text(voxel_nm: Voxel | None) -> str:
    """(30.0, 8.0, 8.0) -> '30,8,8'; an unknown z is '?'."""
    return ",".join("?" if math.isnan(size) else f"{size:g}" for size in voxel_nm or ())


def parse_voxel_text(text: str) -> Voxel | None:
    """The inverse of `voxel_text`, for text that a person typed too; None if empty, InputError if unreadable."""
    return parse_voxel(text.strip(), "Voxel size")


def finest(layer: Any) -> Any:
    """The array of a layer, or that of level 0."""
    return layer.data[0] if layer.multiscale else layer.data


def volume_of_layer(layer: Any, voxel_nm: Voxel | None) -> Volume:
    """The layer's values as a volume; what is not in memory is not read.

    Raises:
        InputError: there is no layer, or it is not one grey stack z y x.
    """
    if layer is None:
        raise InputError("No image layer is chosen; open a volume first (File > Open).")
    data = finest(layer)
    if getattr(layer, "rgb", False) or data.ndim != 3:
        raise InputError(
            f"Layer {layer.name} has {format_shape(data.shape)} values"
            f"{' in colour' if getattr(layer, 'rgb', False) else ''}; expected one grey stack of axes z y x."
        )
    if isinstance(data, LazyArray):
        return dataclasses.replace(data.volume, voxel_nm=voxel_nm)
    return Volume.from_array(data, voxel_nm, layer.name)


def is_in_memory(layer: Any) -> bool:
    """Whether all voxels of a layer can be read at no cost."""
    return isinstance(finest(layer), np.ndarray)


def z_on_screen(layer: Any, viewer: Any) -> int:
    """The slice of a layer z y x that the slider is at."""
    z = round(float(layer.world_to_data(viewer.dims.point[-3:])[0]))
    return min(max(z, 0), finest(layer).shape[0] - 1)


def yx_on_screen(layer: Any) -> tuple[slice, slice]:
    """The part of a layer's slices that the canvas shows, in voxels of level 0; all of it where none is shown."""
    shape = finest(layer).shape[1:]
    factors = np.array(layer.downsample_factors[layer.data_level])[1:] if layer.multiscale else np.ones(2)
    first, last = layer.corner_pixels[:, 1:] * factors
    starts, stops = np.maximum(first, 0).astype(int), np.minimum(np.ceil(last + factors), shape).astype(int)
    if (stops - starts <= 1).any():
        return tuple(slice(0, length) for length in shape)
    return tuple(slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True))


def go_to(viewer: Any, layer: Any, z: float, yx: tuple[slice, slice]) -> None:
    """Shows slice z of a layer; if its part y x is not on the canvas as a whole, that comes to the middle."""
    world = layer.data_to_world((z, *((part.start + part.stop) / 2 for part in yx)))
    shown = yx_on_screen(layer)
    is_shown = all(a.start <= b.start and b.stop <= a.stop for a, b in zip(shown, yx, strict=True))
    for axis, position in enumerate(world, start=viewer.dims.ndim - 3):
        if axis in viewer.dims.not_displayed:
            viewer.dims.set_point(axis, position)
    if not is_shown:
        viewer.scene.camera.center = tuple(world)
