"""Probabilities averaged along z, or over sections cut along all three axes."""

import dataclasses
import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.errors import InputError
from dualrel_jax.inference.resume import Progress
from dualrel_jax.inference.volume_predictor import Model, Section
from dualrel_jax.inference.windows import Region, Window, relative, slabs

_MOST_ANISOTROPIC = 1.5
_DEPTH = 32  # sections across z that are read at once


def smoothing_slices(volume: Volume, smoothing_nm: float) -> float:
    """`predict.z_smoothing_nm` in slices, 0 where the distance of slices is unknown; InputError below 0."""
    if not 0 <= smoothing_nm < math.inf:
        raise InputError(f"config.predict.z_smoothing_nm is {smoothing_nm}; expected 0 (off) or a length in nm.")
    if smoothing_nm and (volume.voxel_nm is None or math.isnan(volume.voxel_nm[0])):
        print(
            f"{volume.path} does not say the distance of its slices, so that nothing is averaged along z; "
            "--config.predict.voxel_nm=z,y,x in nm sets it."
        )
        return 0.0
    return smoothing_nm / volume.voxel_nm[0] if smoothing_nm else 0.0


def reach(sigma: float) -> int:
    """Slices on either side that a Gaussian is summed over."""
    return math.ceil(3 * sigma)


def smoothed(sections: Iterator[Section], given: range, wanted: range, sigma: float) -> Iterator[Section]:
    """Gaussian mean over z of the sections at `given`, for each z of `wanted`; `sigma` in slices.

    The weights of those slices that show something sum to one: at the ends of the volume and beside a section that is
    None the mean is over fewer slices, and none is invented. None stays None. In memory are 2 reach + 1 sections, as
    float16.
    """
    radius = reach(sigma)
    coming = zip(given, sections, strict=True)
    held: deque[tuple[int, Section]] = deque(maxlen=2 * radius + 1)
    for z in wanted:
        while not held or held[-1][0] < min(z + radius, given[-1]):
            at, section = next(coming)
            held.append((at, None if section is None else section.astype(np.float16)))
        near = {at: section for at, section in held if section is not None and abs(at - z) <= radius}
        if z not in near:
            yield None
            continue
        weights = {at: math.exp(-0.5 * ((at - z) / sigma) ** 2) for at in near}
        total = sum(weights.values())
        mean = np.zeros_like(near[z], np.float32)
        for at, section in near.items():
            mean += np.multiply(section, weights[at] / total, dtype=np.float32)
        yield mean


def check_isotropic(volume: Volume) -> None:
    """InputError where sections across z would not look like slices."""
    sizes = volume.voxel_nm
    if sizes is None or math.isnan(sizes[0]):
        raise InputError(
            f"config.predict.orthogonal_planes=True needs the voxel size, which {volume.path} does not say; set "
            "--config.predict.voxel_nm=z,y,x in nm, or leave orthogonal_planes at False."
        )
    if max(sizes) > _MOST_ANISOTROPIC * min(sizes):
        raise InputError(
            f"config.predict.orthogonal_planes=True: {volume.path} has voxels of "
            f"{sizes[0]:g} x {sizes[1]:g} x {sizes[2]:g} nm; "
            f"expected sides that differ by at most {_MOST_ANISOTROPIC} times: leave it at False."
        )


def open_views(path: Path, region: Region) -> np.ndarray:
    """A file for `view z y x` uint8, mapped into memory: the probabilities of the xz and the yz sections."""
    shape = (2, *(part.stop - part.start for part in region))
    return np.memmap(path, np.uint8, "r+" if path.exists() else "w+", shape=shape)


def section_count(model: Model, volume: Volume, region: Region) -> int:
    """Sections that `predict_views` works through."""
    return sum((turn.along.stop - turn.along.start) * len(turn.windows) for turn in _turns(model, volume, region))


def predict_views(model: Model, volume: Volume, region: Region, views: np.ndarray, progress: Progress) -> None:
    """Fills `views` with the probabilities, 0..255, of the region's xz and yz sections."""
    for turn, view in zip(_turns(model, volume, region), views, strict=True):
        for window in turn.windows:
            target = view.transpose(turn.order)[:, *relative(window.inner, turn.across)]
            for slab in progress.remaining(slabs(turn.along, _DEPTH)):
                outer = list(window.outer)
                outer.insert(turn.order[0], slab)
                # Read at once: a slice of the volume is decoded for all of these sections, not for each.
                block = Volume.from_array(volume[tuple(outer)].transpose(turn.order), turn.voxel_nm, volume.path)
                for at, section in enumerate(model.sections(block), start=slab.start - turn.along.start):
                    if section is not None:
                        target[at] = np.rint(section[window.kept] * 255)
                    progress.step()
                views.flush()
                progress.finished()


@dataclass(frozen=True)
class _Turn:
    """The volume seen along another axis: `order` of its axes then, and the region in that order."""

    order: tuple[int, int, int]
    voxel_nm: Voxel
    along: slice
    across: tuple[slice, slice]
    windows: list[Window]


def _turns(model: Model, volume: Volume, region: Region) -> Iterator[_Turn]:
    for order in ((1, 0, 2), (2, 0, 1)):  # y z x: xz sections; x z y: yz sections
        shape, voxel_nm, (along, *across) = (
            tuple(values[i] for i in order) for values in (volume.shape, volume.voxel_nm, region)
        )
        turned = dataclasses.replace(volume, shape=shape, voxel_nm=voxel_nm)  # for its geometry: it reads no pixels
        yield _Turn(order, voxel_nm, along, tuple(across), list(model.windows(turned, across)))


def averaged(sections: Iterator[Section], others: np.ndarray) -> Iterator[Section]:
    """Mean of each section and of those of the other views at its place, `view z y x` uint8. None stays None."""
    for z, section in enumerate(sections):
        if section is None:
            yield None
        else:
            yield (others[:, z].sum(axis=0, dtype=np.float32) / 255 + section) / (1 + len(others))
