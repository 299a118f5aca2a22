"""Pseudo-labels: what the first stage of a training predicts of its own volumes, as labels for the second stage.

A prediction averaged over neighbouring slices is better than one of a single slice. A network that learns such
predictions is as good on single slices, and better still when its own are averaged.
"""

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.constants import IGNORE
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import Dataset, Part
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.inference.choice import choose
from dualrel_jax.inference.predict_volume import predict_volume
from dualrel_jax.inference.run import Run
from dualrel_jax.utils.ranges import central_window, evenly_spaced

MARGIN = 0.1  # a pixel whose probability is closer to the threshold than this is ignored
MOST_PX = 500e6  # of a volume at the training pixel size: of a larger one slabs, with the middle of their slices
SIDE_PX, SLAB = 2048, 16  # largest side of that middle; slices of a slab


@dataclasses.dataclass(frozen=True, kw_only=True)
class PseudoLabelledPart(Part):
    """Slices with pseudo-labels in place of labels.

    Attributes:
      slabs: of each its slices in the volume, the probabilities 0..255 of its window, and the threshold of its masks.
    """

    slabs: tuple[tuple[slice, Volume, float], ...]

    def native_label_at(self, z: int) -> np.ndarray:
        for zs, probability, threshold in self.slabs:
            if zs.start <= z < zs.stop:
                return label_of(probability[z - zs.start] / np.float32(255), threshold)
        raise ValueError(f"slice {z} has no pseudo-label")


def label_of(probability: np.ndarray, threshold: float) -> np.ndarray:
    """0 / 1 by a threshold, and IGNORE within MARGIN of it: any shape, uint8."""
    unsure = np.abs(probability - threshold) < MARGIN
    return np.where(unsure, np.uint8(IGNORE), (probability > threshold).astype(np.uint8))


def for_pseudo_labels(config: ConfigDict) -> ConfigDict:
    """`config` without the settings of `predict` that are of one volume or of one output."""
    cleared = {"region": "", "points": "", "foreground_fraction": 0.0, "full_size": False}
    return config_lib.changed(config, {f"predict.{key}": value for key, value in cleared.items()})


def pseudo_labelled(run: Run, partition: Partition, folder: Path) -> tuple[Dataset, Partition]:
    """The data set of `run` with parts of pseudo-labels by its model added, and the partition that uses all labels.

    `run` has a config `for_pseudo_labels`. The predictions are kept in `folder`, where a stopped call is continued.
    Head and averages are those by which `predict` segments the same volumes, the threshold that of masks that keep all
    parts. A slice that was trained with its label keeps it.
    """
    parts = [_pseudo_part(run, part, set(partition.labelled), folder) for part in run.dataset.train]
    entries = [*partition.labelled, *((part.name, z) for part in parts for z in part.labelled_zs)]
    return dataclasses.replace(run.dataset, train=(*run.dataset.train, *parts)), Partition(tuple(entries), ())


def _pseudo_part(run: Run, part: Part, labelled: set[tuple[str, int]], folder: Path) -> PseudoLabelledPart:
    """The part's slices without a used label, of a large volume the middle of some of them."""
    slabs = []
    for i, (zs, *window) in enumerate(boxes_of(part)):
        output = folder / f"{part.name.replace('/', '_')}_{i}.zarr"
        slabs.append((zs, *_predicted(run, part, (zs, *window), output)))
    free = [z for z in part.zs if (part.name, z) not in labelled and any(zs.start <= z < zs.stop for zs, *_ in slabs)]
    window = tuple(
        slice(side.start + corner, side.stop + corner) for side, corner in zip(window, part.corner, strict=True)
    )
    fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(Part)}
    fields |= {"name": f"{part.name}/pseudo", "labelled_zs": tuple(free), "window": window}
    return PseudoLabelledPart(**fields, slabs=tuple(slabs))


def boxes_of(part: Part) -> list[tuple[slice, slice, slice]]:
    """Boxes z y x of the part's view that get pseudo-labels: its slices or, of a large volume, slabs of them."""
    first, last = part.zs[0], part.zs[-1] + 1
    native, size = part.view.shape[1:], part.shape_at_training
    if (last - first) * np.prod(size, dtype=float) <= MOST_PX:
        return [(slice(first, last), *(slice(0, side) for side in native))]
    window = central_window(native, max(1, int(SIDE_PX * min(np.divide(native, size)))))
    scale = np.prod(np.divide(size, native))
    slices = MOST_PX / (scale * np.prod([side.stop - side.start for side in window], dtype=float))
    starts = evenly_spaced(range(first, max(last - SLAB, first) + 1), max(1, int(slices / SLAB)))
    return [(slice(start, min(start + SLAB, last)), *window) for start in starts]


def _predicted(run: Run, part: Part, box: tuple[slice, slice, slice], output: Path) -> tuple[Volume, float]:
    """(probabilities 0..255 of the box, threshold of its masks); predicted unless that was done before."""
    settings = run.config.predict.copy_and_resolve_references().unlock()
    choice = choose(run, [part.view], settings.z_smoothing_nm)
    probability = output.with_name(f"{output.stem}_probability{output.suffix}")
    if not output.with_suffix(".json").exists():  # written after the volumes
        settings.update({"probability": True, "threshold": choice.threshold, "prediction_head": choice.prediction_head})
        settings.intensity_range = ",".join(f"{grey!r}" for grey in map(float, part.range))
        output.parent.mkdir(parents=True, exist_ok=True)
        volume = part.view.crop(*box)  # what lies outside, as a validation block, plays no part
        predict_volume(choice.predictor, run.variables, volume, output, settings, pixel_nm=run.pixel_nm)
    return open_volume(str(probability), verbose=False), choice.threshold
