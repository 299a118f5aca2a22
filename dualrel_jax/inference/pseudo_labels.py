"""Pseudo-labels: what the first stage of a training predicts of its own volumes, as labels for the second stage.

A prediction averaged over neighbouring slices is better than one of a single slice. A network that learns such
predictions is as good on single slices, and better still when its own are averaged.
"""

import dataclasses
from pathlib import Path

import numpy as np

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
    """A part whose slices `labelled_zs` have a label: the true one or, where there is none, a pseudo-label.

    Attributes:
      true: the part, with true labels on its `labelled_zs` alone.
      boxes: of each slab the box z y x in the part's view, its probabilities 0..255, and the threshold of its masks.
    """

    true: Part
    boxes: tuple[tuple[tuple[slice, slice, slice], Volume, float], ...]

    def native_label_at(self, z: int) -> np.ndarray:
        if z in self.true.labelled_zs:
            return self.true.native_label_at(z)
        label = np.full(self.view.shape[1:], IGNORE, np.uint8)
        for (zs, *window), probability, threshold in self.boxes:
            if zs.start <= z < zs.stop:
                label[*window] = label_of(probability[z - zs.start] / np.float32(255), threshold)
        return label


def label_of(probability: np.ndarray, threshold: float) -> np.ndarray:
    """0 / 1 by a threshold, and IGNORE within MARGIN of it: any shape, uint8."""
    unsure = np.abs(probability - threshold) < MARGIN
    return np.where(unsure, np.uint8(IGNORE), (probability > threshold).astype(np.uint8))


def pseudo_labelled(run: Run, partition: Partition, folder: Path) -> tuple[Dataset, Partition]:
    """The data set of `run` with pseudo-labels by its model, and the partition that labels all these slices.

    The predictions are kept in `folder`, where a stopped call is continued. Head, threshold and averages are those by
    which `predict` segments the same volumes. Only slices that were trained with a label keep their true one.
    """
    labelled = set(partition.labelled)
    parts = []
    for part in run.dataset.train:
        true_zs = tuple(z for z in part.labelled_zs if (part.name, z) in labelled)
        parts.append(_pseudo_labelled_part(run, dataclasses.replace(part, labelled_zs=true_zs), folder))
    entries = tuple((part.name, z) for part in parts for z in part.labelled_zs)
    return dataclasses.replace(run.dataset, train=tuple(parts)), Partition(entries, ())


def _pseudo_labelled_part(run: Run, part: Part, folder: Path) -> PseudoLabelledPart:
    boxes = []
    for i, box in enumerate(boxes_of(part)):
        output = folder / f"{part.name.replace('/', '_')}_{i}.zarr"
        boxes.append((box, *_predicted(run, part, box, output)))
    zs = sorted({*part.labelled_zs, *(z for (zs, *_), *_ in boxes for z in part.zs if zs.start <= z < zs.stop)})
    fields = {field.name: getattr(part, field.name) for field in dataclasses.fields(Part)}
    return PseudoLabelledPart(**{**fields, "labelled_zs": tuple(zs)}, true=part, boxes=tuple(boxes))


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
    if not output.with_suffix(".json").exists():  # written last
        settings.update({"region": "", "probability": True, "foreground_fraction": 0.0, "threshold": choice.threshold})
        settings.prediction_head = choice.prediction_head
        settings.intensity_range = ",".join(f"{grey!r}" for grey in map(float, part.range))
        output.parent.mkdir(parents=True, exist_ok=True)
        volume = part.view.crop(*box)  # what lies outside, as a validation block, plays no part
        predict_volume(choice.predictor, run.variables, volume, output, settings, pixel_nm=run.pixel_nm)
    return open_volume(str(probability), verbose=False), choice.threshold
