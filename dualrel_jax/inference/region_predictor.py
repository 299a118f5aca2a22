"""The probabilities of a region of a volume, averaged along z and over orthogonal planes as the settings ask."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from dualrel_jax.data.io.volume import Volume
from dualrel_jax.inference import orthogonal_planes, z_smoothing
from dualrel_jax.inference.threshold import SAMPLE
from dualrel_jax.inference.volume_predictor import ProbabilitySlice, VolumePredictor
from dualrel_jax.inference.windows import Window
from dualrel_jax.metrics.segmentation import probability_histogram
from dualrel_jax.utils.boxes import Box, within
from dualrel_jax.utils.ranges import evenly_spaced

FEW_SLICES = 4


@dataclass(frozen=True)
class RegionPredictor:
    """Probability slices of the windows of a region.

    Attributes:
        model: predicts slices.
        volume: what the region is a part of.
        region: z y x.
        sigma: of the Gaussian mean along z, in slices; 0: none.
        planes: probabilities of the xz and yz planes, as `orthogonal_planes.open_planes` gives them; None: none.
    """

    model: VolumePredictor
    volume: Volume
    region: Box
    sigma: float
    planes: np.ndarray | None

    @functools.cached_property
    def windows(self) -> list[Window]:
        return list(self.model.windows(self.volume, self.region[1:]))

    def slice_count(self) -> int:
        """Slices, of all windows and planes, that are predicted."""
        z = self.region[0]
        return self.plane_count() + len(self.windows) * (z.stop - z.start)

    def plane_count(self) -> int:
        """Planes across z that are predicted."""
        return 0 if self.planes is None else orthogonal_planes.plane_count(self.model, self.volume, self.region)

    def sample_places(self) -> Iterator[tuple[Window, int]]:
        """(window, z) spread over the region."""
        start = self.region[0].start
        for at in evenly_spaced(range(len(self.windows) * (self.region[0].stop - start)), SAMPLE):
            z, i = divmod(at, len(self.windows))
            yield self.windows[i], start + z

    def sample(self, places: Iterable[tuple[Window, int]] | None = None) -> Iterator[np.ndarray]:
        """Probability slices at `places`, such as `sample_places`, the default."""
        for window, z in self.sample_places() if places is None else places:
            for probability in self.probability_slices(window, range(z, z + 1)):
                y, x = window.inner
                yield np.zeros((y.stop - y.start, x.stop - x.start)) if probability is None else probability

    def at(self, zyx: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(probability at voxels n 3 of the region: n float32, histogram of the probabilities of the region).

        The slices of the voxels stand for the region where there are FEW_SLICES or more, else a sample does.
        """
        at_voxels, counts = np.zeros(len(zyx), np.float32), 0
        zs = sorted(set(zyx[:, 0].tolist()))
        for z in zs:
            for window in self.windows:
                (probability,) = self.probability_slices(window, range(z, z + 1))
                y, x = window.inner
                shape = (y.stop - y.start, x.stop - x.start)
                probability = np.zeros(shape, np.float32) if probability is None else probability
                counts = counts + probability_histogram(probability)
                row, column = zyx[:, 1] - y.start, zyx[:, 2] - x.start
                here = (zyx[:, 0] == z) & (0 <= row) & (row < shape[0]) & (0 <= column) & (column < shape[1])
                at_voxels[here] = probability[row[here], column[here]]
        return at_voxels, counts if len(zs) >= FEW_SLICES else sum(map(probability_histogram, self.sample()))

    def probability_slices(self, window: Window, zs: range) -> Iterator[ProbabilitySlice]:
        """Of the window's inner part, at each of `zs`."""
        # Planes are known in the region only.
        known = slice(0, len(self.volume)) if self.planes is None else self.region[0]
        reach = z_smoothing.reach(self.sigma)
        read = range(max(zs.start - reach, known.start), min(zs.stop + reach, known.stop))
        seen = self.volume.crop(slice(read.start, read.stop), *window.outer)
        if self.sigma:
            seen = seen.changed(lambda slice_yx, at: z_smoothing.mirrored(slice_yx, read[at]))
            slices = map(z_smoothing.mirrored, self.model.probability_slices(seen), read)
        else:
            slices = self.model.probability_slices(seen)
        slices = (None if p is None else p[window.kept] for p in slices)
        if self.planes is not None:
            planes = self.planes[:, *within((read, *window.inner), self.region)]
            slices = orthogonal_planes.averaged(slices, planes)
        return z_smoothing.smoothed(slices, read, zs, self.sigma) if self.sigma else slices
