"""The threshold of a run's masks, calibrated without further labels.

What is learned without labels makes masks too large or too small, in all slices alike. Slices close to a labelled one
hold about as much mitochondrion as its label does, yet their own labels were not learned. Where the masks of the ones
cover as much as the labels of the others, that error is undone.
"""

from collections.abc import Sequence

import numpy as np

from dualrel_jax.blocks import middle
from dualrel_jax.data.checks import spread
from dualrel_jax.data.datasets import Part
from dualrel_jax.data.partitions import Partition
from dualrel_jax.losses import IGNORE
from dualrel_jax.methods.base import Variables
from dualrel_jax.predictor import Predictor

UNCALIBRATED = 0.5
LIMITS = 0.25, 0.75  # one slice says little of a volume: no threshold is further off
# Along z. Lucchi's slices 10 and 20 nm away together hold what the one between them does, +-3 %; those 35 and 100 nm
# away +-11 %. Of thicker sections it is the next one, and none beyond 100 nm.
REACH_NM, FARTHEST_NM, UNKNOWN_NM = 20.0, 100.0, 50.0
LABELLED, NEIGHBOURS, SIDE = 8, 4, 1024  # at most so many labelled slices, unlabelled ones near each, pixels a side
_BINS = 1000


def calibrate(predictor: Predictor, variables: Variables, parts: Sequence[Part], partition: Partition) -> float:
    """The threshold at which slices near labelled ones are covered as those are, within LIMITS.

    UNCALIBRATED where no unlabelled slice is near a labelled one, or the labels show no mitochondrion.

    Args:
      parts: of the training. partition: which of their slices were trained with their labels.
    """
    counts, wanted = np.zeros(_BINS + 1, np.int64), 0  # pixels by probability; labelled ones
    for part, z, near in neighbours(parts, partition):
        window = middle(part.shape_at_training, SIDE)
        label = part.label_at(z)[window]
        for other in near:
            probability = predictor(variables, part.image_at(other)[window])
            counts += np.bincount((probability[label != IGNORE] * _BINS).astype(int), minlength=_BINS + 1)
            wanted += np.count_nonzero(label == 1)
    if not wanted:
        return UNCALIBRATED
    covered = counts[::-1].cumsum()[::-1]  # by thresholds of 0, 1, ... _BINS
    closest = np.flatnonzero(np.abs(covered - wanted) == np.abs(covered - wanted).min()) / _BINS
    return float(np.clip(closest[np.abs(closest - UNCALIBRATED).argmin()], *LIMITS))


def neighbours(parts: Sequence[Part], partition: Partition) -> list[tuple[Part, int, list[int]]]:
    """(part, labelled z, unlabelled z near it) of labelled slices spread over the volumes."""
    labelled, by_name = set(partition.labelled), {part.name: part for part in parts}
    free = [entry for entry in partition.unlabelled if entry not in labelled]
    found = []
    for name, z in partition.labelled:
        step_nm = (by_name[name].image.voxel_nm or (UNKNOWN_NM,))[0]
        reach = max(REACH_NM / step_nm, 1) if step_nm <= FARTHEST_NM else 0  # slices
        near = [other for part, other in free if part == name and abs(other - z) <= reach]
        if near:
            found.append((by_name[name], z, spread(near, NEIGHBOURS)))
    return spread(found, LABELLED)
