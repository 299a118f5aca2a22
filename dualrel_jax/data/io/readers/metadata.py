"""Axes and voxel sizes as zarr, n5 and HDF5 files state them: OME-Zarr, COSEM, N5 Viewer, neuroglancer, funlib, xarray.

Sources: OME-NGFF 0.4 and 0.5 (https://ngff.openmicroscopy.org); n5-universe (`pixelResolution` is that of full
resolution where `downsamplingFactors` stands beside it); cellmap-schemas of COSEM (a `transform` for each level, in the
order of its own `axes`); neuroglancer's n5 data source (`axes`, `units`, `resolution`, inherited from groups above).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dualrel_jax.data.io.readers.axes import letters
from dualrel_jax.data.io.voxel import is_likely, unit_nm
from dualrel_jax.errors import InputError

_AXES_KEYS = ("_ARRAY_DIMENSIONS", "axis_names", "dimension_names", "axes", "dims")
_SIZE_KEYS = ("pixelResolution", "resolution", "voxel_size")
_LEVEL = re.compile(r"(?:s|scale)?(\d+)")


@dataclass(frozen=True)
class Metadata:
    """Where an array lies and what stands beside it.

    Attributes:
        path: for messages.
        shape: of the array as it is read, slowest axis first.
        groups: attributes of the array, then of the group that holds it, then of the group above.
        names_in_groups: path of the array in each of the two groups.
        fastest_first: attributes list axes in the reverse of `shape`, as in n5.
        names: of the axes, in the order of `shape`, where the format itself has them.
        full_shape: of level 0, where the array is a level of a pyramid.
    """

    path: str
    shape: tuple[int, ...]
    groups: tuple[dict[str, Any], ...]
    names_in_groups: tuple[str, ...] = ()
    fastest_first: bool = False
    names: Sequence[object] | None = None
    full_shape: tuple[int, ...] | None = None

    def axis_names(self) -> list | None:
        """Names of the axes in the order of `shape`; None where none are stated.

        Raises:
            InputError: two statements that contradict each other.
        """
        stated = [names for names in self._all_names() if len(names) == len(self.shape)]
        known = [names for names in stated if {"y", "x"} & set(letters(names))]
        if len({letters(names) for names in known}) > 1:
            orders = " and as ".join(sorted({" ".join(map(str, names)) for names in known}))
            raise InputError(f"{self.path}: states its axes as {orders}; expected one order: correct its attributes")
        return list((known or stated or [None])[0]) if stated else None

    def _all_names(self) -> list[Sequence]:
        stated = [] if self.names is None or not any(self.names) else [list(self.names)]
        if entry := self._ome():
            image, _ = entry
            stated.append([axis.get("name") if isinstance(axis, dict) else axis for axis in image.get("axes", [])])
        if transform := self._cosem():
            names = list(transform.get("axes", []))
            stated.append(names[::-1] if transform.get("order") == "F" else names)
        for attributes in self.groups if self.fastest_first else self.groups[:1]:
            for key in _AXES_KEYS:
                names = attributes.get(key)
                names = list(names.replace(",", "").replace(" ", "")) if isinstance(names, str) else names
                if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
                    stated.append(names[::-1] if self.fastest_first else names)
        return stated

    def sizes_nm(self) -> list[float] | None:
        """Size of a voxel of this array along each of its axes, nan where unknown; None where nothing is stated."""
        if entry := self._ome():
            sizes = self._ome_sizes(*entry)
            if not all(map(math.isnan, sizes)):
                return sizes
        if transform := self._cosem():
            units = transform.get("units") or ["nm"] * len(self.shape)
            sizes = [size * _length(unit) for size, unit in zip(transform["scale"], units, strict=True)]
            return sizes[::-1] if transform.get("order") == "F" else sizes
        for depth, attributes in enumerate(self.groups):
            sizes = self._listed_sizes(attributes)
            if sizes is not None:
                factors = self._factors(own_size=depth == 0)
                return [size * factor for size, factor in zip(sizes, factors, strict=True)]
        return None

    def offsets_nm(self) -> list[float] | None:
        """Centre of the first voxel along each axis, nan where its unit is unknown; None where nothing is stated."""
        if (entry := self._ome()) and (placed := self._ome_placing(*entry)):
            return placed[1]
        if (transform := self._cosem()) and len(transform.get("translate", ())) == len(self.shape):
            units = transform.get("units") or ["nm"] * len(self.shape)
            offsets = [at * _length(unit) for at, unit in zip(transform["translate"], units, strict=True)]
            return offsets[::-1] if transform.get("order") == "F" else offsets
        return None

    # ---- OME-Zarr

    def _ome(self) -> tuple[dict, dict] | None:
        """The multiscale image of OME-Zarr that lists this array, and its entry there."""
        for group, name in zip(self.groups[1:], self.names_in_groups, strict=False):
            for image in group.get("multiscales") or []:
                for level in image.get("datasets", []):
                    if level.get("path", "").strip("/") == name and "transform" not in level:
                        return image, level
        return None

    def _ome_sizes(self, image: dict, level: dict) -> list[float]:
        placed = self._ome_placing(image, level)
        return [math.nan] * len(self.shape) if placed is None else placed[0]

    def _ome_placing(self, image: dict, level: dict) -> tuple[list[float], list[float]] | None:
        """(size, position of the centre of the first voxel) in nm along each axis; None where it is not understood."""
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image.get("axes", [])]
        units = [_length(axis.get("unit")) for axis in axes] or [math.nan] * len(self.shape)
        steps = (level.get("coordinateTransformations") or []) + (image.get("coordinateTransformations") or [])
        kinds = [step.get("type") for step in steps]
        if "scale" not in kinds or not {*kinds} <= {"scale", "translation", "identity"}:
            return None
        sizes, offsets = units, [0 * unit for unit in units]
        for step in steps:
            if step["type"] == "scale":
                sizes, offsets = (
                    [value * factor for value, factor in zip(values, step["scale"], strict=True)]
                    for values in (sizes, offsets)
                )
            elif step["type"] == "translation":
                moves = zip(offsets, step["translation"], units, strict=True)
                offsets = [offset + move * unit for offset, move, unit in moves]
        return sizes, offsets

    def is_strided(self) -> bool:
        """Whether lower levels were made by leaving out voxels, as far as OME-Zarr states it."""
        entry = self._ome()
        kind = str(entry[0].get("type", "")).lower() if entry else ""
        return any(word in kind for word in ("stride", "nearest", "subsampl", "decimat"))

    def _cosem(self) -> dict | None:
        """The `transform` of this array: beside it, or in the group's list of levels."""
        transforms = [self.groups[0].get("transform")]
        for group, name in zip(self.groups[1:], self.names_in_groups, strict=False):
            for image in group.get("multiscales") or []:
                transforms += [
                    level.get("transform")
                    for level in image.get("datasets", [])
                    if level.get("path", "").strip("/") == name
                ]
        fits = (t for t in transforms if isinstance(t, dict) and len(t.get("scale", ())) == len(self.shape))
        return next(fits, None)

    # ---- n5 and others

    def _listed_sizes(self, attributes: dict) -> list[float] | None:
        """`pixelResolution`, `resolution` or `voxel_size`, in the order of `shape`."""
        for key in _SIZE_KEYS:
            value = attributes.get(key)
            units = attributes.get("units") or attributes.get("unit")
            if isinstance(value, dict):
                value, units = value.get("dimensions"), value.get("unit", units)
            if not isinstance(value, list) or not all(isinstance(size, int | float) for size in value):
                continue
            if len(value) not in (3, len(self.shape)):
                continue
            units = units if isinstance(units, list) and len(units) == len(value) else [units] * len(value)
            lengths = [1.0 if unit is None else _length(unit) for unit in units]
            sizes = [size * length for size, length in zip(value, lengths, strict=True)]
            if self.fastest_first or key == "pixelResolution":
                sizes = sizes[::-1]
            # Python programs write them in the other order; pixels are square.
            if sizes[0] == sizes[1] != sizes[-1] != sizes[-2] and letters(self.axis_names() or "zyx")[-3:] == "zyx":
                sizes = sizes[::-1]
            sizes = self._among_axes(sizes)
            return self._with_likely_unit(sizes) if None in units else sizes
        return None

    def _among_axes(self, sizes: list[float]) -> list[float]:
        """Three sizes for the last three axes, or for z, y and x by their names; nan for the others."""
        if len(sizes) == len(self.shape):
            return sizes
        names = letters(self.axis_names() or "")
        order = [axis for axis, letter in enumerate(names) if letter in "zyx"]
        order = order if len(order) == 3 else [axis for axis, length in enumerate(self.shape) if length > 1][-3:]
        placed = [math.nan] * len(self.shape)
        for axis, size in zip(order, sizes[-len(order) :], strict=True):
            placed[axis] = size
        return placed

    def _with_likely_unit(self, sizes: list[float]) -> list[float]:
        """Numbers without a unit are nm, as in CREMI; or micrometres, as in N5 Viewer, where nm are no EM."""
        lengths = [size for size in sizes if not math.isnan(size)]
        in_um = [1e3 * size for size in sizes]
        if is_likely((math.nan, *lengths)) or not is_likely((math.nan, *(1e3 * size for size in lengths))):
            return sizes
        return in_um

    def _factors(self, own_size: bool) -> list[float]:
        """Voxels of level 0 in one of this array, along each axis; 1 where the size is that of the array itself."""
        own = self.groups[0].get("downsamplingFactors")
        if isinstance(own, int | float):
            own = [own] * len(self.shape)
        if isinstance(own, list) and len(own) in (3, len(self.shape)) and not isinstance(own[0], list):
            return self._reordered(own)
        if own_size:
            return [1.0] * len(self.shape)
        for group, name in zip(self.groups[1:], self.names_in_groups, strict=False):
            level = _LEVEL.fullmatch(name.split("/")[-1])
            for key in ("downsamplingFactors", "scales"):
                listed = group.get(key)
                if level and isinstance(listed, list) and int(level[1]) < len(listed):
                    return self._reordered(listed[int(level[1])])
        if self.full_shape and len(self.full_shape) == len(self.shape):
            return [float(round(full / here)) for full, here in zip(self.full_shape, self.shape, strict=True)]
        return [1.0] * len(self.shape)

    def _reordered(self, factors: Sequence[float]) -> list[float]:
        """n5 lists factors x y z, in zarr as well."""
        placed = self._among_axes([float(factor) for factor in factors][::-1])
        return [1.0 if math.isnan(factor) else factor for factor in placed]


def _length(unit: Any) -> float:
    return unit_nm(unit) or math.nan
