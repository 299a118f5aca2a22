"""How well predicted instances match true ones: average precision, panoptic quality, splits and merges."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dualrel_jax.utils.jsonl import without_nan

AP_IOUS = (0.5, 0.75)


@dataclass(frozen=True)
class Overlaps:
    """Voxel counts of `n` true and `m` predicted instances, each numbered from 0 in ascending order of their ids.

    Attributes:
        truth_voxels: `n`; predicted_voxels: `m`.
        truth, predicted, voxels: `k` each, the pairs that share voxels and how many.
    """

    truth_voxels: np.ndarray
    predicted_voxels: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray
    voxels: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """`k`: intersection over union of each pair."""
        return self.voxels / (self.truth_voxels[self.truth] + self.predicted_voxels[self.predicted] - self.voxels)


def overlaps(truth: Iterable[np.ndarray], predicted: Iterable[np.ndarray]) -> Overlaps:
    """Counts two label volumes `z y x` of whole numbers, slice by slice; 0 is background."""
    counts: dict[tuple[int, int], int] = {}
    for truth_yx, predicted_yx in zip(truth, predicted, strict=True):
        somewhere = (truth_yx > 0) | (predicted_yx > 0)
        rows, row = np.unique(truth_yx[somewhere], return_inverse=True)
        columns, column = np.unique(predicted_yx[somewhere], return_inverse=True)
        pairs, voxels = np.unique(row * len(columns) + column, return_counts=True)
        for pair, n in zip(pairs.tolist(), voxels.tolist(), strict=True):
            key = int(rows[pair // len(columns)]), int(columns[pair % len(columns)])
            counts[key] = counts.get(key, 0) + n
    voxels = np.fromiter(counts.values(), np.int64, len(counts))
    # Background comes first and takes part until sizes are counted.
    _, i = np.unique([0, *(key[0] for key in counts)], return_inverse=True)
    _, j = np.unique([0, *(key[1] for key in counts)], return_inverse=True)
    sizes = [np.bincount(index[1:], voxels, index.max() + 1)[1:].astype(np.int64) for index in (i, j)]
    both = (i[1:] > 0) & (j[1:] > 0)
    return Overlaps(*sizes, i[1:][both] - 1, j[1:][both] - 1, voxels[both])


def compare(found: Overlaps, confidence: np.ndarray) -> dict:
    """Every score, ready for JSON; None where it is undefined (nothing to find, or nothing found).

    Args:
        found: from `overlaps`.
        confidence: `m`, of each predicted instance; any increasing scale.
    """
    scores = {"true_instances": len(found.truth_voxels), "predicted_instances": len(found.predicted_voxels)}
    for threshold in AP_IOUS:
        hits = matches(found, threshold)
        scores[f"iou_{threshold:g}"] = {
            "average_precision": average_precision(hits > 0, confidence, len(found.truth_voxels)),
            "true_positives": int((hits > 0).sum()),
            "false_positives": int((hits == 0).sum()),
            "false_negatives": len(found.truth_voxels) - int((hits > 0).sum()),
        }
    scores |= panoptic_quality(found) | {"splits": splits(found), "merges": merges(found)}
    return without_nan(scores)


def matches(found: Overlaps, threshold: float) -> np.ndarray:
    """`m`: intersection over union of each predicted instance with the true one it matches, 0 where it matches none.

    A pair matches where its intersection over union is above `threshold` >= 0.5: then no instance has two matches
    (Kirillov et al., Panoptic Segmentation, CVPR 2019, section 4.1).
    """
    iou, hits = found.iou, np.zeros(len(found.predicted_voxels))
    hits[found.predicted[iou > threshold]] = iou[iou > threshold]
    return hits


def average_precision(is_hit: np.ndarray, confidence: np.ndarray, truths: int) -> float:
    """Area under the curve of precision against recall, over all limits of confidence; NaN without a true instance.

    Precision at a recall is the best at that or a greater recall (Everingham et al., IJCV 111, 2015). At an overlap of
    0.75 it is the score of MitoEM (Wei et al., MICCAI 2020). Instances of equal confidence enter together: their order
    means nothing.

    Args:
        is_hit: `m` bool, matches a true instance.
        confidence: `m`.
        truths: number of true instances.
    """
    if truths == 0:
        return math.nan
    limits, group = np.unique(-np.asarray(confidence), return_inverse=True)
    hits = np.bincount(group, weights=is_hit, minlength=len(limits)).cumsum()
    precision = hits / np.bincount(group, minlength=len(limits)).cumsum()
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.diff(hits, prepend=0) @ best / truths)


def panoptic_quality(found: Overlaps) -> dict[str, float]:
    """Panoptic quality and its factors, segmentation and recognition quality (Kirillov et al., CVPR 2019, equation 1).

    PQ = (sum of IoU over matches) / (TP + FP / 2 + FN / 2) = (mean IoU of matches) x (F1 of detection), matches being
    pairs of an intersection over union above 0.5.
    """
    hits = matches(found, 0.5)
    true_positives, instances = (hits > 0).sum(), len(found.truth_voxels) + len(found.predicted_voxels)
    return {
        "panoptic_quality": 2 * hits.sum() / instances if instances else math.nan,
        "segmentation_quality": hits.sum() / true_positives if true_positives else math.nan,
        "recognition_quality": 2 * true_positives / instances if instances else math.nan,
    }


def merges(found: Overlaps) -> int:
    """Number of cuts that would part true instances lying in one predicted instance.

    A true instance lies in the predicted one that holds more than half of it; one that holds k of them needs k - 1 cuts
    (vertex splitting operations of Matula et al., PLoS ONE 10(12), 2015).
    """
    return _surplus(found.predicted[2 * found.voxels > found.truth_voxels[found.truth]])


def splits(found: Overlaps) -> int:
    """Number of joins that would make one of predicted instances lying in one true instance.

    `merges` with the roles exchanged: a predicted instance lies in the true one that holds more than half of it.
    """
    return _surplus(found.truth[2 * found.voxels > found.predicted_voxels[found.predicted]])


def _surplus(holders: np.ndarray) -> int:
    return len(holders) - len(np.unique(holders))
