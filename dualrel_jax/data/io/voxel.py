"""Voxel sizes: units, what is likely for electron microscopy, and the check every command makes before it computes."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from dualrel_jax.errors import InputError

Voxel = tuple[float, float, float]  # z y x, nm; z may be nan

PIXEL_NM = (0.5, 100.0)  # y and x of electron microscopy; 4.6 to 10 in the public data sets
SLICE_NM = (0.5, 1000.0)  # z: sections of a blockface or of an ultramicrotome are 5 to 200 nm thick

_NM = {
    **dict.fromkeys(("pm", "picometer"), 1e-3),
    **dict.fromkeys(("a", "angstrom", "ångström", "ångstrom", "å"), 0.1),
    **dict.fromkeys(("nm", "nanometer"), 1.0),
    **dict.fromkeys(("um", "micron", "micrometer"), 1e3),
    **dict.fromkeys(("mm", "millimeter"), 1e6),
    **dict.fromkeys(("cm", "centimeter"), 1e7),
    **dict.fromkeys(("dm", "decimeter"), 1e8),
    **dict.fromkeys(("m", "meter"), 1e9),
    **dict.fromkeys(("in", "inch", "inches"), 25.4e6),
}


def unit_nm(unit: Any) -> float | None:
    """Length of a unit by its name, in nm; None for 'pixel' and anything else unknown."""
    # ImageJ writes the micro sign escaped, and older versions in a wrong encoding; Unicode has two of them. The
    # angstrom sign and the letter Å are two characters as well.
    text = str(unit).strip().lower().replace("\\u00b5", "u").replace("\\u00c5", "å").replace("\\u00e5", "å")
    text = text.replace("â", "").replace("\u00b5", "u").replace("\u03bc", "u").replace("\u212b", "å")
    text = text.replace("a\u030a", "å").replace("metre", "meter")
    return _NM.get(text) or _NM.get(text.removesuffix("s"))


def voxel_of(sizes_nm: Iterable[float]) -> Voxel | None:
    """(z, y, x), with z nan where it is unknown; None where the pixel size is unknown."""
    # Six digits: units are converted and TIFF keeps ratios of whole numbers, so 4.6 arrives as 4.5999999.
    z, y, x = (float(f"{size:.6g}") for size in sizes_nm)
    return (z if 0 < z < math.inf else math.nan, y, x) if 0 < y < math.inf and 0 < x < math.inf else None


def is_voxel(sizes_nm: Sequence[float]) -> bool:
    """Whether these are three sizes above 0; the first, z, may be nan."""
    return len(sizes_nm) == 3 and all(0 < size < math.inf for size in sizes_nm[math.isnan(sizes_nm[0]) :])


def is_likely(sizes_nm: Sequence[float]) -> bool:
    """Whether sizes z y x are within `SLICE_NM` (or z is nan) and `PIXEL_NM`."""
    z, *yx = sizes_nm
    return all(PIXEL_NM[0] <= size <= PIXEL_NM[1] for size in yx) and not (z < SLICE_NM[0] or z > SLICE_NM[1])


def likely_nm(sizes: Sequence[float], unit: float | None) -> list[float] | None:
    """Sizes x, y, z in nm, from a unit in nm, or where that is unknown (None) from the likely one of nm, µm and mm.

    None for sizes that are all 1, which programs write that know none, unless that is likely with the unit, and where
    no unit is likely.
    """
    for nm in (1.0, 1e3, 1e6) if unit is None else (unit,):
        lengths = [nm * size for size in sizes]
        plausible = len(lengths) >= 2 and is_likely((lengths[2] if len(lengths) > 2 else math.nan, *lengths[1::-1]))
        if unit is not None and (plausible or any(size != 1 for size in sizes)):
            return lengths
        if unit is None and plausible and any(size != 1 for size in sizes):
            return lengths
    return None


def check_likely(sizes_nm: Voxel | None, source: str, key: str) -> None:
    """Refuses a voxel size that cannot be that of electron microscopy; an unknown one passes.

    Args:
        sizes_nm: z y x.
        source: what states it, the subject of the sentence.
        key: the config field that sets it.

    Raises:
        InputError: pixels outside `PIXEL_NM`, or slices outside `SLICE_NM`.
    """
    if sizes_nm is None or is_likely(sizes_nm):
        return
    z, y, x = ("?" if math.isnan(size) else f"{size:g}" for size in sizes_nm)
    raise InputError(
        f"{source} states voxels of {z} x {y} x {x} nm (z y x); expected pixels (y, x) of {PIXEL_NM[0]:g} to "
        f"{PIXEL_NM[1]:g} nm and slices (z) of {SLICE_NM[0]:g} to {SLICE_NM[1]:g} nm, as in electron microscopy, so a "
        f"unit may be wrong: set {key}=z,y,x in nm, such as 30,8,8"
    )
