"""Whether a volume looks like those whose labels a model has learned from: same voxel size, greys and detail."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from dualrel_jax.data.datasets.dark_lines import CLEAR, dark_lines
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import Dataset, training_shape
from dualrel_jax.data.io.resample import resample_image
from dualrel_jax.data.io.volume import Volume, intensity_range, to_uint8
from dualrel_jax.utils.ranges import central_window, evenly_spaced

# Limits between "another part of this tissue" and "another microscope", measured on five volumes at 20 nm. Twenty
# blocks of 256 to 512 pixels against the whole volume they were cut from: greys apart by 0.02, at most 0.06 in nine of
# ten; detail by a factor of 1.05, at most 1.12. Volumes of different microscopes: greys by 0.09 or more, or detail by
# 1.29 or more, and each pair differs in its voxel size by far more than 1.2.
VOXEL_FACTOR, GREY_DISTANCE, DETAIL_FACTOR = 1.2, 0.1, 1.25
SLICES, SIDE = 8, 1024  # looked at: slices of a volume, and the pixels of their middle
_QUANTILES = np.linspace(0.02, 0.98, 25)


@dataclasses.dataclass(frozen=True)
class Appearance:
    """What a volume looks like at the training pixel size.

    Attributes:
        path: of the volume.
        voxel_nm: (z, y, x), or None; z nan where it is unknown.
        greys: quantiles of the grey values, in 0..1 of the intensity range.
        detail: root mean square difference of neighbouring pixels over the standard deviation of all.
        dark_lines: from -1, thin lines are bright, to 1; None of blank volumes, and in records of older runs.
    """

    path: str
    voxel_nm: tuple[float, float, float] | None
    greys: tuple[float, ...]
    detail: float
    dark_lines: float | None = None

    @classmethod
    def from_json(cls, record: dict) -> "Appearance":
        """From `dataclasses.asdict`, in which JSON has null for nan."""
        voxel_nm = record["voxel_nm"] and tuple(math.nan if size is None else size for size in record["voxel_nm"])
        return cls(record["path"], voxel_nm, tuple(record["greys"]), record["detail"], record.get("dark_lines"))

    def is_inverse_of(self, other: "Appearance") -> bool:
        """Whether thin lines are clearly bright in one and dark in the other, which no two kinds of tissue are."""
        both = self.dark_lines, other.dark_lines
        return None not in both and min(both) < -CLEAR and max(both) > CLEAR

    def difference(self, other: "Appearance") -> str:
        """How this volume differs from `other`, as a part of a sentence; empty if it looks alike."""
        if self.voxel_nm and other.voxel_nm:
            pairs = zip(self.voxel_nm, other.voxel_nm, strict=True)
            if any(max(a, b) > VOXEL_FACTOR * min(a, b) for a, b in pairs):  # never with nan
                return f"its voxels are {_sizes(self.voxel_nm)} nm, those of the training {_sizes(other.voxel_nm)} nm"
        grey_distance = float(np.mean(np.abs(np.subtract(self.greys, other.greys))))
        if grey_distance > GREY_DISTANCE:
            return f"its grey values lie {grey_distance:.0%} of the range from those of the training"
        detail_factor = max(self.detail, other.detail) / max(min(self.detail, other.detail), 1e-6)
        if detail_factor > DETAIL_FACTOR:
            return (
                f"its fine detail is {detail_factor:.1f} times as {'strong' if self.detail > other.detail else 'weak'} "
                "as that of the training"
            )
        return ""


def appearance(
    volume: Volume,
    pixel_nm: tuple[float, float] | None,
    zs: Sequence[int] | None = None,
    grey_range: tuple[float, float] | None = None,
) -> Appearance:
    """Of SLICES slices of a volume, spread over `zs` (default: all), in the middle SIDE pixels.

    Args:
        pixel_nm: training pixel size (y, x), to which slices are resampled.
        grey_range: intensities that become black and white (default: `intensity_range`).
    """
    low_high = grey_range or intensity_range(volume, zs)
    middle = volume.crop(slice(0, len(volume)), *central_window(volume.shape[1:], SIDE))
    shape = training_shape(middle, pixel_nm)
    images, values, squares = [], [], []
    for z in evenly_spaced(range(len(volume)) if zs is None else zs, SLICES):
        images.append(resample_image(to_uint8(middle[z], low_high, volume.path), shape))
        image = images[-1].astype(np.float32)
        inside = (image > 0) & (image < 255)  # what lies beyond the tissue is black or white
        values.append(image[inside])
        for axis in (0, 1):
            both = np.delete(inside, 0, axis) & np.delete(inside, -1, axis)
            squares.append(np.square(np.diff(image, axis=axis)[both]))
    values, squares = np.concatenate(values), np.concatenate(squares)
    if not len(values) or not len(squares):
        return Appearance(volume.container or volume.path, volume.full_voxel_nm, (0.0,) * len(_QUANTILES), 0.0)
    greys = np.quantile(values, _QUANTILES) / 255
    detail = math.sqrt(squares.mean()) / max(float(values.std()), 1e-6)
    name, voxel_nm = volume.container or volume.path, volume.full_voxel_nm  # whichever level was read
    dark = dark_lines(images)
    dark = dark if dark is None else round(dark, 4)
    return Appearance(name, voxel_nm, tuple(np.round(greys, 4).tolist()), round(detail, 4), dark)


def appearances(dataset: Dataset, partition: Partition) -> list[Appearance]:
    """Of the training volumes whose labels are learned from."""
    labelled = {name for name, _ in partition.labelled}
    return [
        appearance(part.view, part.pixel_nm, part.zs, part.range) for part in dataset.train if part.name in labelled
    ]


def _sizes(voxel_nm: Sequence[float]) -> str:
    return " x ".join("?" if math.isnan(size) else f"{size:g}" for size in voxel_nm)
