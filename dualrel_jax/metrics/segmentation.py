"""Segmentation scores, accumulated slice by slice."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dualrel_jax.constants import IGNORE
from dualrel_jax.utils.atomic import write_text
from dualrel_jax.utils.jsonl import without_nan
from dualrel_jax.utils.tables import csv_table

BINS = 1000  # of a histogram over probabilities


@dataclass
class Scores:
    """Scores of a volume seen one slice at a time; holds one small record per slice and no pixels.

    JAC (Eq. 3), DSC (Eq. 4), precision and recall compare the hard prediction `probability > threshold` with the
    label; confusion density (Eq. 1-2) is the mean over pixels of one minus the probability of the true class. All are
    fractions in 0..1 (the paper prints percent). Ignored pixels (label 255) count nowhere.

    Slices without foreground: where neither the label nor the prediction has a foreground pixel, JAC and DSC are 0/0.
    Such a slice has no score (NaN): it is left out of the per-slice means and counted in `slices_without_foreground`.
    A slice with predicted but no true foreground scores 0 and stays in. Pooled scores come from the pixel counts of
    all slices, so they need no such rule, and DSC = 2 JAC / (1 + JAC) holds for them exactly. A slice of nothing but
    ignored pixels has a record of zero counts and is not counted in `slices`.
    """

    threshold: float = 0.5
    records: list[dict] = field(default_factory=list)
    # Pixels by label (background, mitochondrion) and probability (0, 1, ... BINS), for `jac_at`.
    histograms: np.ndarray = field(default_factory=lambda: np.zeros((2, BINS + 1), np.int64))

    def update(self, z: int, probability: np.ndarray, label: np.ndarray) -> dict:
        """Scores slice `z` and returns its record.

        Args:
            z: index of the slice, copied into the record.
            probability: `y x`, probability of mitochondrion, in 0..1; of a mask, 0 and 1.
            label: `y x`, 0 background, 1 mitochondrion, 255 ignored.

        Raises:
            ValueError: shapes differ, a probability lies outside 0..1 or is NaN, or the label has another value.
        """
        _check(z, probability, label)
        probability = probability.astype(np.float32) if probability.dtype.kind != "f" else probability
        scored, true, predicted = label != IGNORE, label == 1, probability > self.threshold
        tp = np.count_nonzero(predicted & true)
        fp = np.count_nonzero(predicted & scored) - tp
        fn = np.count_nonzero(true) - tp
        pixels = np.count_nonzero(scored)
        self.histograms += [probability_histogram(probability[label == value]) for value in (0, 1)]
        confusion = np.abs(true - probability).sum(where=scored, dtype=np.float64)  # Eq. 1: p if Y = 0, 1 - p if Y = 1
        record = {
            "z": int(z),
            **_scores(tp, fp, fn),
            "confusion_density": ratio(float(confusion), pixels),
            **{"tp": tp, "fp": fp, "fn": fn, "tn": pixels - tp - fp - fn},
        }
        self.records.append(record)
        return record

    def jac_at(self, threshold: float) -> float:
        """Pooled JAC at another threshold, rounded to 1 / BINS; NaN where it is 0/0."""
        background, mitochondrion = self.histograms[:, round(threshold * BINS) :].sum(axis=1)
        return ratio(int(mitochondrion), int(self.histograms[1].sum() + background))

    def summary(self) -> dict:
        """Scores of all slices so far; NaN where a score is undefined (0/0)."""
        scored = [record for record in self.records if _pixels(record)]
        defined = [record for record in scored if not math.isnan(record["jac"])]
        pooled = _scores(*(sum(record[key] for record in scored) for key in ("tp", "fp", "fn")))
        confusion = math.fsum(record["confusion_density"] * _pixels(record) for record in scored)
        return {
            "jac_pooled": pooled["jac"],
            "dsc_pooled": pooled["dsc"],
            "jac_per_slice_mean": ratio(math.fsum(record["jac"] for record in defined), len(defined)),
            "dsc_per_slice_mean": ratio(math.fsum(record["dsc"] for record in defined), len(defined)),
            "precision_pooled": pooled["precision"],
            "recall_pooled": pooled["recall"],
            "confusion_density": ratio(confusion, sum(map(_pixels, scored))),
            "slices": len(scored),
            "slices_without_foreground": len(scored) - len(defined),
        }


def above(values: np.ndarray, threshold: float) -> np.ndarray:
    """Bool: where a probability, 0..255 as uint8, else 0..1, is above `threshold`, 0..1."""
    if values.dtype == np.uint8:
        return values > math.floor(threshold * 255)  # the same for whole numbers, without making them real ones
    return values > threshold


def probability_histogram(probability: np.ndarray) -> np.ndarray:
    """Pixels of each probability, rounded down to a multiple of 1 / BINS: any shape -> BINS + 1 counts."""
    return np.bincount((probability.ravel().clip(0, 1) * BINS).astype(int), minlength=BINS + 1)


def write_metrics(folder: str | Path, summary: dict, records: list[dict]) -> tuple[Path, Path]:
    """Writes `metrics.json` (the summary) and `slices.csv` (one row per slice); NaN becomes null and an empty cell."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    metrics, slices = folder / "metrics.json", folder / "slices.csv"
    write_text(metrics, json.dumps(without_nan(summary), indent=2, allow_nan=False) + "\n")
    columns = list(records[0]) if records else ["z"]
    write_text(slices, csv_table(columns, ([record[key] for key in columns] for record in records)))
    return metrics, slices


def _check(z: int, probability: np.ndarray, label: np.ndarray) -> None:
    if probability.shape != label.shape or probability.ndim != 2:
        raise ValueError(f"slice {z}: expected y x arrays of one shape, got {probability.shape} and {label.shape}")
    # Blended tiles exceed 1 by rounding; the comparison is written so that NaN fails it.
    if not (probability.min() > -1e-3 and probability.max() < 1 + 1e-3):
        raise ValueError(
            f"slice {z}: probabilities lie in {probability.min():.4g}..{probability.max():.4g}, expected 0..1"
        )
    if not ((label <= 1) | (label == IGNORE)).all() or label.min() < 0:
        raise ValueError(f"slice {z}: expected label values 0, 1 and {IGNORE}, got {np.unique(label)[:8]}")


def _scores(tp: int, fp: int, fn: int) -> dict[str, float]:
    return {
        "jac": ratio(tp, tp + fp + fn),
        "dsc": ratio(2 * tp, 2 * tp + fp + fn),
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
    }


def ratio(part: float, whole: float) -> float:
    """part / whole; NaN for a whole of 0."""
    return part / whole if whole else math.nan


def _pixels(record: dict) -> int:
    return record["tp"] + record["fp"] + record["fn"] + record["tn"]
