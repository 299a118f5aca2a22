"""Confusion of a prediction (Eqs. 1 and 2), and how much of it lies near the borders of mitochondria.

Shapes: a slice or tile is y x. Lengths are in the unit of `pixel`, the size (y, x) of a pixel.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage

from dualrel_jax.constants import IGNORE
from dualrel_jax.metrics.segmentation import ratio

NEAR_PX = 3  # "at the border": within this many pixels on either side of it
CONFUSION_EDGES = np.linspace(0, 1, 51)
DISTANCE_EDGES_PX = np.arange(-15, 31)


def confusion(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Eq. 1: one minus the probability of the true class, y x; NaN where the label is ignored."""
    return np.where(label == IGNORE, np.nan, np.abs((label == 1) - probability).clip(0, 1))


def has_border(label: np.ndarray) -> bool:
    """Whether a slice has both mitochondria and background."""
    return bool((label == 1).any() and (label == 0).any())


def signed_distance(label: np.ndarray, pixel: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Distance of each pixel to the nearest border of a mitochondrion, negative inside: y x.

    It is the distance to the nearest pixel of the other class minus half a pixel, because the border lies between the
    two; infinite in a slice without the other class. An ignored pixel belongs to neither class and has a positive
    distance itself.
    """
    inside = label == 1

    def distance_to(pixels):
        if not pixels.any():
            return np.full(label.shape, np.inf)
        return ndimage.distance_transform_edt(~pixels, sampling=pixel) - math.sqrt(pixel[0] * pixel[1]) / 2

    return np.where(inside, -distance_to(label == 0), distance_to(inside))


def near_border(label: np.ndarray, pixel: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Pixels within NEAR_PX pixels of a border and not ignored: y x bool."""
    near = np.abs(signed_distance(label, pixel)) < NEAR_PX * math.sqrt(pixel[0] * pixel[1])
    return near & (label != IGNORE)


def confusion_counts(probability: np.ndarray, label: np.ndarray, pixel: tuple[float, float]) -> dict:
    """Sums over the pixels of one slice that are not ignored; the sums of several slices add up."""
    scored = label != IGNORE
    value = confusion(probability, label)[scored].astype(np.float64)
    distance_px = signed_distance(label, pixel)[scored] / math.sqrt(pixel[0] * pixel[1])
    near = near_border(label, pixel)[scored]
    return {
        "pixels": value.size,
        "confusion": value.sum(),
        "near_pixels": int(near.sum()),
        "near_confusion": value[near].sum(),
        "histogram": np.histogram(value, CONFUSION_EDGES)[0],
        "pixels_by_distance": np.histogram(distance_px, DISTANCE_EDGES_PX)[0],
        "confusion_by_distance": np.histogram(distance_px, DISTANCE_EDGES_PX, weights=value)[0],
    }


def confusion_summary(counts: Sequence[Mapping]) -> dict:
    """Over all slices: confusion density (Eq. 2), the part of it near borders, its histogram, its mean by distance.

    counts: `confusion_counts` of each slice. NaN for 0/0.
    """
    total = {key: sum(count[key] for count in counts) for key in counts[0]}
    with np.errstate(invalid="ignore"):  # a distance without pixels
        return {
            "confusion_density": ratio(total["confusion"], total["pixels"]),
            "share_of_confusion_near_border": ratio(total["near_confusion"], total["confusion"]),
            "share_of_pixels_near_border": ratio(total["near_pixels"], total["pixels"]),
            "slices": len(counts),
            "slices_denser_near_border": sum(
                count["near_confusion"] * count["pixels"] > count["confusion"] * count["near_pixels"]
                for count in counts
            ),
            "histogram_edges": CONFUSION_EDGES,
            "histogram_share_of_pixels": total["histogram"] / total["pixels"],
            "distance_edges_px": DISTANCE_EDGES_PX,
            "confusion_density_by_distance": total["confusion_by_distance"] / total["pixels_by_distance"],
            "pixels_by_distance": total["pixels_by_distance"],
        }
