"""The computations behind the buttons: segmentation, instances and suggestions. JAX is imported when it is used."""

import dataclasses
import math
import os
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.data.io.volume import Volume, intensity_range
from dualrel_jax.data.io.voxel import Voxel
from dualrel_jax.errors import InputError
from dualrel_jax.utils.ranges import central_window, evenly_spaced

CANDIDATES = 12  # slices that suggestions are chosen from
_SAMPLE_ZYX = (64, 1024, 1024)  # what is looked at of a volume that is not in memory
_BOX_FRACTION = 4  # a suggestion frames a quarter of a tile along each axis


class Progress(NamedTuple):
    """How far a computation is, and what it has found since the last one: patches of probability."""

    done: int
    total: int
    patches: tuple = ()


class Suggestion(NamedTuple):
    """A slice to label next, with the box in which the predictions disagree most, in voxels."""

    z: int
    y: tuple[int, int]
    x: tuple[int, int]
    disagreement: float  # mean over the slice, bits


@dataclasses.dataclass
class Segmenter:
    """A run made ready for a volume.

    Attributes:
        volume: what is segmented; `sample`: of it what the choices look at.
        model: a `VolumePredictor`.
        sigma: of the mean along z, in slices; 0: none.
        threshold: probability above which a pixel is mitochondrion, that of single slices until `use_means`; None:
            `foreground_fraction` leads to it.
        preview: a `Preview` of the volume.
    """

    run: Any
    volume: Volume
    sample: Volume
    model: Any
    sigma: float
    threshold: float | None
    preview: Any = None

    def __post_init__(self):
        self.begin()

    def begin(self) -> None:
        """Nothing of the volume counts as segmented any more."""
        from dualrel_jax.napari_plugin.preview import Preview

        self.preview = Preview(self.model, self.volume, self.sigma)

    def use_means(self) -> None:
        """Takes the threshold of means along z, for masks that keep all parts; to calibrate takes a while at first."""
        from dualrel_jax.inference.choice import choose

        self.threshold = choose(self.run, [self.sample], self.run.config.predict.z_smoothing_nm).threshold


def load(folder: Path, volume: Volume, in_memory: bool) -> Segmenter:
    """Loads the run in `folder`. Head and mean along z are chosen as in `predict`, the threshold for single slices.

    A volume of unknown voxel size is assumed to have the pixel size of the training. Of one that is not `in_memory` the
    intensities are those of its middle.
    """
    # Without this JAX takes most of a GPU's memory while napari runs, and a training in another process has none.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    from dualrel_jax.inference import z_smoothing
    from dualrel_jax.inference.choice import choose
    from dualrel_jax.inference.run import load_run
    from dualrel_jax.inference.volume_predictor import VolumePredictor
    from dualrel_jax.utils import sharding

    sharding.cache_compilations()
    run = load_run(folder)
    settings = run.config.predict
    sample = volume
    if not in_memory:
        z, y, x = (central_window((n,), most)[0] for n, most in zip(volume.shape, _SAMPLE_ZYX, strict=True))
        sample = volume.crop(z, y, x)
    choice = choose(run, [sample])
    print(choice.explanation)
    model = VolumePredictor(
        choice.predictor, run.variables, intensity_range(sample), run.pixel_nm, settings.tile, settings.overlap, side=0
    )
    sigma = z_smoothing.smoothing_slices(volume, settings.z_smoothing_nm)
    return Segmenter(run, volume, sample, model, sigma, choice.threshold)


def segment_view(loaded: Callable[[], Segmenter], view: Callable[[], Any]) -> Generator[Progress, None, Segmenter]:
    """Segments what is on screen, then what is around it, until nothing is left; `view()` may change meanwhile."""
    yield Progress(0, 0)
    segmenter, done = loaded(), 0
    while (patches := segmenter.preview.next(view())) is not None:
        done += 1
        yield Progress(done, 0, tuple(patches))
    return segmenter


def segment_all(loaded: Callable[[], Segmenter]) -> Generator[Progress, None, Segmenter]:
    """Segments all slices from the first to the last, averaged along z as `predict` does."""
    from dualrel_jax.inference.region_predictor import RegionPredictor
    from dualrel_jax.inference.volume_predictor import to_bytes
    from dualrel_jax.napari_plugin.preview import Patch

    yield Progress(0, 0)
    segmenter = loaded()
    segmenter.use_means()
    volume, zs = segmenter.volume, range(len(segmenter.volume))
    model = dataclasses.replace(segmenter.model, side=segmenter.run.config.predict.window_px)
    whole = RegionPredictor(model, volume, tuple(slice(0, n) for n in volume.shape), segmenter.sigma, planes=None)
    for i, window in enumerate(whole.windows):
        shape = tuple(part.stop - part.start for part in window.inner)
        for z, probability in zip(zs, whole.probability_slices(window, zs), strict=True):
            patch = Patch(z, window.inner, to_bytes(probability, shape))
            yield Progress(i * len(zs) + z + 1, len(whole.windows) * len(zs), (patch,))
    for z in zs:
        segmenter.preview.finish(z)
    return segmenter


def automatic_threshold(segmenter: Segmenter, probability: Any, zs: Iterable[int]) -> float:
    """That of the run for this volume; where `foreground_fraction` leads to it, from slices `zs` of `probability`."""
    if segmenter.threshold:
        return segmenter.threshold
    from dualrel_jax.inference.threshold import SAMPLE, of_fraction

    slices = (np.asarray(probability[z]) / 255 for z in evenly_spaced(sorted(zs), SAMPLE))
    return of_fraction(slices, segmenter.run.config.predict.foreground_fraction)


def label_and_measure(
    mask: np.ndarray, probability: Any, voxel_nm: Voxel | None, settings: ConfigDict, certain: Iterable[int] = ()
) -> tuple[np.ndarray, list[dict]]:
    """Labels the instances of a bool mask and measures them; -> (labels `z y x`, one row of measures per instance).

    Those of a mean probability below `settings.min_probability` are left out. In the slices `certain`, which a person
    corrected, the mask counts as the probability. Without `probability`, None, none is left out and the rows lack
    mean_probability. See `instances.segment` and `instances.morphometry`.

    Raises:
        InputError: the voxel size is unknown.
    """
    from dualrel_jax.instances import morphometry, segment

    if voxel_nm is None or math.isnan(voxel_nm[0]):
        raise InputError(
            "Volumes and lengths need the voxel size, which the image lacks; fill in Voxel size as z,y,x in nm, "
            "such as 30,8,8."
        )
    labels = segment.label_instances(mask, voxel_nm, settings)
    if probability is None:
        rows = morphometry.measure(labels, Volume.from_array(mask), voxel_nm)
        for row in rows:
            del row["mean_probability"]
        return labels, rows
    values = np.array(probability)
    for z in certain:
        values[z] = np.where(mask[z], 255, 0)
    numbers = int(labels.max()) + 1
    pairs = [(plane.ravel(), weights.ravel()) for plane, weights in zip(labels, values, strict=True)]
    voxels = sum(np.bincount(plane, minlength=numbers) for plane, _ in pairs)
    sums = sum(np.bincount(plane, weights, numbers) for plane, weights in pairs)
    kept = sums >= settings.min_probability * 255 * voxels
    kept[0] = False
    labels = np.where(kept, np.cumsum(kept), 0).astype(labels.dtype)[labels]
    return labels, morphometry.measure(labels, Volume.from_array(values), voxel_nm)


def suggest(
    loaded: Callable[[], Segmenter], known: Iterable[int], count: int
) -> Generator[Progress, None, list[Suggestion]]:
    """Chooses slices to label next: where predictions disagree most, apart from each other and from those `known`.

    CANDIDATES slices are looked at, of large ones a tile each.
    """
    yield Progress(0, CANDIDATES)
    segmenter = loaded()
    from dualrel_jax import suggest as suggest_lib
    from dualrel_jax.data.datasets.registry import Part
    from dualrel_jax.inference.disagreement import disagreement_predictor

    run, volume, tiles = segmenter.run, segmenter.volume, segmenter.preview.tiles
    model = dataclasses.replace(segmenter.model, predictor=disagreement_predictor(run))

    def part(tile: Any) -> Part:
        return Part("image", volume, None, (), (), None, run.pixel_nm, model.grey, tile.inner)

    known = sorted(set(known))
    free = [z for z in range(len(volume)) if z not in known]
    if not free:
        raise InputError("All slices are corrected already; there is none to suggest.")
    regions, boxes = [], {}
    chosen = evenly_spaced(free, CANDIDATES)
    for done, z in enumerate(chosen, start=1):
        tile = tiles[(done * len(tiles)) // (len(chosen) + 1)]
        [bits] = model.probability_slices(volume.crop(slice(z, z + 1), *tile.outer))
        if bits is not None:
            bits = bits[tile.kept]
            box_px = max(min(bits.shape) // _BOX_FRACTION, 1)
            [whole] = suggest_lib.regions_of(part(tile), z, bits, 0)
            regions.append(whole)
            parts = suggest_lib.regions_of(part(tile), z, bits, box_px)
            boxes[z] = max(parts, key=lambda box: (_is_square(box), box.disagreement))  # no sliver at the far edges
        yield Progress(done, len(chosen))
    if not regions:
        raise InputError("The slices looked at show a single grey; there is none to suggest.")
    whole = ((0, volume.shape[1]), (0, volume.shape[2]))
    labelled = [suggest_lib.Candidate(part(tiles[0]), z, *whole, 0.0) for z in known]
    picks = suggest_lib.choose(regions, labelled, count)
    best = [(pick.region, boxes[pick.region.z]) for pick in picks]
    return [Suggestion(region.z, box.y, box.x, region.disagreement) for region, box in best]


def _is_square(box: Any) -> bool:
    return box.y[1] - box.y[0] == box.x[1] - box.x[0]
