"""The threshold of a run's masks, calibrated without further labels.

What is learned without labels makes masks too large or too small, in all slices alike. Slices close to a labelled one
hold about as much mitochondrion as its label does, yet their own labels were not learned. Where the masks of the ones
cover as much as the labels of the others, that error is undone. Of another volume no label says how much it holds;
if it is known, from counting points for instance, set `predict.foreground_fraction`.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from dualrel_jax.constants import IGNORE
from dualrel_jax.data.datasets.partition import Partition
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.inference.slice_predictor import Predictor
from dualrel_jax.inference.z_smoothing import knows_z, mirrored, reach, smoothed
from dualrel_jax.methods.base import Variables
from dualrel_jax.metrics.segmentation import BINS, probability_histogram
from dualrel_jax.utils.ranges import central_window, evenly_spaced

UNCALIBRATED = 0.5
CALIBRATED_RANGE = 0.25, 0.75  # one slice says little of a volume: no threshold is further off
# Along z. Lucchi's slices 10 and 20 nm away together hold what the one between them does, +-3 %; those 35 and 100 nm
# away +-11 %. Of thicker sections it is the next one, and none beyond 100 nm.
REACH_NM, FARTHEST_NM, UNKNOWN_NM = 20.0, 100.0, 50.0
LABELLED, NEIGHBOURS, SIDE = 8, 4, 1024  # at most so many labelled slices, unlabelled ones near each, pixels a side
SAMPLE = 16  # slices of a volume whose foreground fraction is known


def calibrate(
    predictor: Predictor,
    variables: Variables,
    parts: Sequence[Part],
    partition: Partition,
    *,
    smoothing_nm: float = 0.0,
) -> float | None:
    """The threshold at which slices near labelled ones are covered as those are, within CALIBRATED_RANGE.

    None where no unlabelled slice is near a labelled one, or the labels show no mitochondrion.

    Args:
      parts: of the training. partition: which of their slices were trained with their labels.
      smoothing_nm: the probabilities are averaged along z before, as `predict` averages them: an average is flatter
        than single slices, and the threshold at which both cover the same is another.
    """
    counts, wanted = 0, 0  # pixels by probability; labelled ones
    for part, z, near in neighbours(parts, partition):
        window = central_window(part.shape_at_training, SIDE)
        label = part.label_at(z)[window]
        sigma = smoothing_nm / part.image.voxel_nm[0] if smoothing_nm and knows_z(part.image) else 0.0
        radius = reach(sigma)
        predicted = range(max(near[0] - radius, 0), min(near[-1] + radius + 1, len(part.image))) if sigma else near
        images = (part.image_at(other)[window] for other in predicted)
        if sigma:
            found = map(mirrored, predictor.each(variables, map(mirrored, images, predicted)), predicted)
            probabilities = smoothed(found, predicted, near, sigma)
        else:
            probabilities = predictor.each(variables, images)
        for probability in probabilities:
            counts += probability_histogram(probability[label != IGNORE])
            wanted += np.count_nonzero(label == 1)
    return of_coverage(counts, wanted)


def of_coverage(counts: np.ndarray, wanted: int) -> float | None:
    """The threshold in CALIBRATED_RANGE at which `wanted` pixels are covered, `counts` by probability; None for 0."""
    return float(np.clip(_covering(counts, wanted), *CALIBRATED_RANGE)) if wanted else None


def explain(threshold: float | None, smoothing_nm: float = 0.0) -> str:
    """A sentence about what `calibrate` found of slices averaged along z by `smoothing_nm`; 0: of single slices."""
    if threshold is None:
        return (
            f"The threshold is {UNCALIBRATED:.2f}, not calibrated: no slice without labels lies near one whose label "
            "shows a mitochondrion."
        )
    of = "slices averaged along z" if smoothing_nm else "single slices"
    limit, cover = "", "cover as much as"
    if threshold in CALIBRATED_RANGE:
        limit, cover = ", its limit", f"still cover {'more' if threshold == CALIBRATED_RANGE[1] else 'less'} than"
    return f"The threshold of {of} is {threshold:.2f}{limit}: there masks beside labelled slices {cover} the labels do."


def of_fraction(probabilities: Iterable[np.ndarray], fraction: float) -> float:
    """The threshold above which `fraction` of the pixels of `probabilities`, arrays of any shape, are.

    Masks of an unseen microscope can be too large or too small by half; no limit holds here but those of a probability.
    """
    return of_counts(sum(map(probability_histogram, probabilities)), fraction)


def of_counts(counts: np.ndarray, fraction: float) -> float:
    """The same of pixels counted by probability, as `probability_histogram` counts them."""
    return float(np.clip(_covering(counts, fraction * counts.sum()), 1 / BINS, 1 - 1 / BINS))


def explain_fraction(threshold: float, fraction: float) -> str:
    """A sentence about what `of_fraction` found."""
    return f"The threshold is {threshold:.2f}: there {fraction:.1%} of a sample is mitochondrion."


def _covering(counts: np.ndarray, wanted: float) -> float:
    """The threshold at which `wanted` pixels are covered; of equally good ones that closest to UNCALIBRATED."""
    off = np.abs(counts[::-1].cumsum()[::-1] - wanted)  # by thresholds of 0, 1, ... BINS
    closest = np.flatnonzero(off == off.min()) / BINS
    return closest[np.abs(closest - UNCALIBRATED).argmin()]


def neighbours(parts: Sequence[Part], partition: Partition) -> list[tuple[Part, int, list[int]]]:
    """(part, labelled z, unlabelled z near it) of labelled slices spread over the volumes."""
    labelled, by_name = set(partition.labelled), {part.name: part for part in parts}
    free = [entry for entry in partition.unlabelled if entry not in labelled]
    found = []
    for name, z in partition.labelled:
        step_nm = np.nan_to_num((by_name[name].image.voxel_nm or (np.nan,))[0], nan=UNKNOWN_NM)
        reach = max(REACH_NM / step_nm, 1) if step_nm <= FARTHEST_NM else 0  # slices
        near = [other for part, other in free if part == name and abs(other - z) <= reach]
        if near:
            found.append((by_name[name], z, evenly_spaced(near, NEIGHBOURS)))
    return evenly_spaced(found, LABELLED)
