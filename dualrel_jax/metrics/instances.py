"""Scores of predicted against true instances: average precision, panoptic quality, splits and merges."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dualrel_jax.errors import InputError
from dualrel_jax.utils.jsonl import without_nan

AP_IOUS = (0.5, 0.75)


@dataclass(frozen=True)
class Overlaps:
    """Voxel counts of `n` true and `m` predicted instances, each numbered from 0 in ascending order of their ids.

    Attributes:
        truth_voxels: `n`; predicted_voxels: `m`.
        truth, predicted, voxels: `k` each: the pairs that share voxels, and the number of shared voxels.
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
    """Counts two label volumes `z y x` of whole numbers, slice by slice; 0 is background.

    Raises:
        InputError: a negative number, or one above 2^63 - 1.
    """
    counts: dict[tuple[int, int], int] = {}
    for truth_yx, predicted_yx in zip(truth, predicted, strict=True):
        for name, values in (("truth", truth_yx), ("prediction", predicted_yx)):
            if values.size and not 0 <= int(values.min()) <= int(values.max()) < 2**63:
                found = f"{values.min()} to {values.max()}"
                raise InputError(
                    f"The {name} holds the numbers {found}; expected 0 (background) to 2^63 - 1: renumber it."
                )
        foreground = (truth_yx > 0) | (predicted_yx > 0)
        rows, row = np.unique(truth_yx[foreground], return_inverse=True)
        columns, column = np.unique(predicted_yx[foreground], return_inverse=True)
        pairs, voxels = np.unique(row * len(columns) + column, return_counts=True)
        for pair, n in zip(pairs.tolist(), voxels.tolist(), strict=True):
            key = int(rows[pair // len(columns)]), int(columns[pair % len(columns)])
            counts[key] = counts.get(key, 0) + n
    voxels = np.fromiter(counts.values(), np.int64, len(counts))
    # Index 0 is background; it is dropped once the sizes are counted.
    _, i = np.unique([0, *(key[0] for key in counts)], return_inverse=True)
    _, j = np.unique([0, *(key[1] for key in counts)], return_inverse=True)
    sizes = [np.bincount(index[1:], voxels, index.max() + 1)[1:].astype(np.int64) for index in (i, j)]
    both = (i[1:] > 0) & (j[1:] > 0)
    return Overlaps(*sizes, i[1:][both] - 1, j[1:][both] - 1, voxels[both])


def compare(pairs: Overlaps, confidence: np.ndarray | None = None) -> dict:
    """All scores, ready for JSON; None where one is undefined: no true or no predicted instance.

    Args:
        pairs: from `overlaps`.
        confidence: `m`, of each predicted instance, on any increasing scale; without it there is no average precision.
    """
    scores = {"true_instances": len(pairs.truth_voxels), "predicted_instances": len(pairs.predicted_voxels)}
    for threshold in AP_IOUS:
        hits = matches(pairs, threshold)
        ranked = confidence is not None
        scores[f"iou_{threshold:g}"] = {
            "average_precision": average_precision(hits > 0, confidence, len(pairs.truth_voxels)) if ranked else None,
            "true_positives": int((hits > 0).sum()),
            "false_positives": int((hits == 0).sum()),
            "false_negatives": len(pairs.truth_voxels) - int((hits > 0).sum()),
        }
    scores |= panoptic_quality(pairs) | {"splits": splits(pairs), "merges": merges(pairs)}
    return without_nan(scores)


def describe(scores: dict) -> str:
    """The scores of `compare` in sentences."""
    sentences = []
    for iou in AP_IOUS:
        found = scores[f"iou_{iou:g}"]
        if (precision := found["average_precision"]) is not None:
            sentences.append(f"AP at IoU {iou:g}: {precision:.3f}.")
        else:
            pairs, wrong, missed = (found[f"{name}s"] for name in ("true_positive", "false_positive", "false_negative"))
            sentences.append(f"At IoU {iou:g} {pairs} match, {wrong} predicted and {missed} true ones do not.")
    if scores["panoptic_quality"] is not None:
        sentences.append(f"Panoptic quality {scores['panoptic_quality']:.3f}.")
    counts = (f"{scores['true_instances']} true instances", f"{scores['splits']} splits", f"{scores['merges']} merges")
    return " ".join([*sentences, f"{', '.join(counts)}."])


def matches(pairs: Overlaps, threshold: float) -> np.ndarray:
    """`m`: IoU of each predicted instance with the true instance it matches, 0 where it matches none.

    A pair matches if its intersection over union (IoU) is above `threshold` >= 0.5: then no instance has two matches
    (Kirillov et al., Panoptic Segmentation, CVPR 2019, section 4.1).
    """
    iou, hits = pairs.iou, np.zeros(len(pairs.predicted_voxels))
    hits[pairs.predicted[iou > threshold]] = iou[iou > threshold]
    return hits


def average_precision(is_hit: np.ndarray, confidence: np.ndarray, truths: int) -> float:
    """Area under the curve of precision against recall over all confidence limits; NaN without a true instance.

    Precision at a recall is the highest at that or a greater recall (Everingham et al., IJCV 111, 2015). At an IoU of
    0.75 it is the score of MitoEM (Wei et al., MICCAI 2020). Instances of equal confidence are added together, because
    their order carries no information.

    Args:
        is_hit: `m` bool, whether the predicted instance matches a true one.
        confidence: `m`, of each predicted instance.
        truths: number of true instances.
    """
    if truths == 0:
        return math.nan
    limits, group = np.unique(-np.asarray(confidence), return_inverse=True)
    hits = np.bincount(group, weights=is_hit, minlength=len(limits)).cumsum()
    precision = hits / np.bincount(group, minlength=len(limits)).cumsum()
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.diff(hits, prepend=0) @ best / truths)


def panoptic_quality(pairs: Overlaps) -> dict[str, float]:
    """Panoptic quality and its factors, segmentation and recognition quality (Kirillov et al., CVPR 2019, equation 1).

    PQ = (sum of IoU over matches) / (TP + FP / 2 + FN / 2) = (mean IoU of matches) x (F1 of detection), where matches
    are pairs with an IoU above 0.5.
    """
    hits = matches(pairs, 0.5)
    true_positives, instances = (hits > 0).sum(), len(pairs.truth_voxels) + len(pairs.predicted_voxels)
    return {
        "panoptic_quality": 2 * hits.sum() / instances if instances else math.nan,
        "segmentation_quality": hits.sum() / true_positives if true_positives else math.nan,
        "recognition_quality": 2 * true_positives / instances if instances else math.nan,
    }


def merges(pairs: Overlaps) -> int:
    """Number of cuts needed to separate true instances that lie in the same predicted instance.

    A true instance lies in the predicted one that contains more than half of its voxels. A predicted instance that
    contains k true ones needs k - 1 cuts (vertex splitting operations of Matula et al., PLoS ONE 10(12), 2015).
    """
    return _surplus(pairs.predicted[2 * pairs.voxels > pairs.truth_voxels[pairs.truth]])


def splits(pairs: Overlaps) -> int:
    """Number of joins needed to unite predicted instances that lie in the same true instance.

    `merges` with the roles exchanged: a predicted instance lies in the true one that contains more than half of it.
    """
    return _surplus(pairs.truth[2 * pairs.voxels > pairs.predicted_voxels[pairs.predicted]])


def _surplus(holders: np.ndarray) -> int:
    return len(holders) - len(np.unique(holders))
