"""Conversion between volumes and napari layers: arrays, and the voxel size as scale and unit."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dualrel_jax.data.datasets.own import parse_voxel
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.data.io.voxel import Voxel, unit_nm, voxel_of
from dualrel_jax.errors import InputError
from dualrel_jax.utils.text import format_shape

_UNKNOWN = "?"
LayerData = tuple[np.ndarray, dict[str, Any], str]


def get_reader(path: str | list[str]) -> Callable[[str], list[LayerData]] | None:
    """For napari's File > Open: a function that reads the volume at `path` into memory; None for several files."""
    return (lambda path: [_as_layer(open_volume(path), "image")]) if isinstance(path, str) else None


def phantom_sample() -> list[LayerData]:
    """For napari's File > Open Sample: the test volume of the phantom."""
    from dualrel_jax.data.phantom import phantom

    return [_as_layer(phantom("phantom", "test")[0], "image")]


def _as_layer(volume: Volume, kind: str) -> LayerData:
    attributes = {"name": volume.path.replace("\\", "/").rstrip("/").rpartition("/")[2], **placement(volume.voxel_nm)}
    return np.array(volume[:]), attributes, kind


def placement(voxel_nm: Voxel | None) -> dict[str, tuple]:
    """Scale and units of a layer z y x; an unknown size is 1 pixel."""
    sizes = voxel_nm or (math.nan,) * 3
    units = tuple("pixel" if math.isnan(size) else "nm" for size in sizes)
    return {"scale": tuple(1.0 if math.isnan(size) else size for size in sizes), "units": units}


def voxel_of_layer(layer: Any) -> Voxel | None:
    """(z, y, x) in nm from the layer's scale and units: z is nan where its unit is pixel; None where y or x has it."""
    if layer.ndim != 3:
        return None
    sizes_nm = [(unit_nm(unit) or math.nan) * size for unit, size in zip(layer.units, layer.scale, strict=True)]
    return voxel_of(sizes_nm)


def voxel_text(voxel_nm: Voxel | None) -> str:
    """(30.0, 8.0, 8.0) -> '30,8,8'; an unknown z is '?'."""
    return ",".join(_UNKNOWN if math.isnan(size) else f"{size:g}" for size in voxel_nm or ())


def parse_voxel_text(text: str) -> Voxel | None:
    """The inverse of `voxel_text`, for text that a person typed too; None if empty, InputError if unreadable."""
    text = text.replace(" ", "")
    if not text.startswith(f"{_UNKNOWN},"):
        return parse_voxel(text, "Voxel size")
    return math.nan, *parse_voxel(text.replace(_UNKNOWN, "1", 1), "Voxel size")[1:]


def volume_of_layer(layer: Any, voxel_nm: Voxel | None) -> Volume:
    """The layer's values as a volume in memory.

    Raises:
        InputError: there is no layer, or it is not one grey stack z y x.
    """
    if layer is None:
        raise InputError("No image layer is chosen; open a volume first (File > Open).")
    data = layer.data[0] if layer.multiscale else layer.data
    if getattr(layer, "rgb", False) or data.ndim != 3:
        raise InputError(
            f"Layer {layer.name} has {format_shape(data.shape)} values"
            f"{' in colour' if getattr(layer, 'rgb', False) else ''}; expected one grey stack of axes z y x."
        )
    return Volume.from_array(np.asarray(data), voxel_nm, layer.name)


def mask_of_layer(layer: Any, volume: Volume) -> np.ndarray:
    """`z y x` bool: where the labels layer is not 0; InputError if its shape is not that of the volume."""
    if layer is None:
        raise InputError("No labels layer is chosen; press Segment first, or add a labels layer and paint.")
    data = layer.data[0] if layer.multiscale else layer.data
    if data.shape != volume.shape:
        raise InputError(
            f"Layer {layer.name} has {format_shape(data.shape)} voxels (z y x), but {volume.path} has "
            f"{format_shape(volume.shape)}; expected labels of that image: choose layers "
            "that belong together."
        )
    return np.asarray(data) > 0
