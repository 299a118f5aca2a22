"""Where prototypes are active, how alike they are, and how that relates to their reliability.

Shapes: a tile is y x; k prototypes, the first half for mitochondria; feature maps are coarser than their label by a
whole factor.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special, stats

from dualrel_jax.constants import IGNORE
from dualrel_jax.visualization.border_analysis import near_border


def assignments(maps: np.ndarray) -> np.ndarray:
    """Assignment of each pixel to the prototypes: softmax over k of activation maps k y x."""
    return special.softmax(np.asarray(maps, np.float64), axis=0)


def share_within(weights: np.ndarray, region: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Fraction of each map of weights, k y x, that lies in a region: k. Only scored pixels count.

    region and scored are bool Y X at the pixels of the label; a weight is spread evenly over its feature pixel.
    """
    inside = np.tensordot(weights, block_mean(region & scored, weights.shape[1:]), 2)
    return inside / np.tensordot(weights, block_mean(scored, weights.shape[1:]), 2)


def border_preference(weights: np.ndarray, label: np.ndarray, near: np.ndarray) -> np.ndarray:
    """n / (n + m), k: n is the mean weight near the border, m the larger of those deep inside and far outside.

    1/2: as active at the border as elsewhere; 1: active only there. Unlike the fraction near the border, it does not
    grow as mitochondria get smaller. weights k y x; label and near Y X.
    """

    def mean(region):
        area = block_mean(region, weights.shape[1:])
        return np.tensordot(weights, area, 2) / max(area.sum(), 1e-9)

    at_border, elsewhere = mean(near), np.maximum(mean((label == 1) & ~near), mean((label == 0) & ~near))
    return at_border / (at_border + elsewhere)


def block_mean(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Y X -> y x: the mean of each block of pixels."""
    (y, x), (rows, columns) = shape, (length // n for length, n in zip(mask.shape, shape, strict=True))
    return mask.reshape(y, rows, x, columns).mean(axis=(1, 3))


def pairwise_cosine(weights: np.ndarray) -> np.ndarray:
    """Cosine between every two maps, k y x -> k k."""
    flat = weights.reshape(len(weights), -1)
    flat = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    return flat @ flat.T


def group_means(matrix: np.ndarray) -> dict[str, float]:
    """Mean over the pairs of prototypes of a group, {foreground, background, all}, of a symmetric k k; NaN: no pair."""
    half = len(matrix) // 2
    groups = {"foreground": matrix[:half, :half], "background": matrix[half:, half:], "all": matrix}
    pairs = {name: group[np.triu_indices(len(group), 1)] for name, group in groups.items()}
    return {name: float(values.mean()) if values.size else math.nan for name, values in pairs.items()}


def prototype_record(activations: Mapping[str, np.ndarray], label: np.ndarray, pixel: tuple[float, float]) -> dict:
    """For one image with its label Y X: where each prototype is active, k, and how alike they are, k k.

    activations: output of `activations` of a method with prototypes, for one image (no batch axis).
    """
    scored, foreground = label != IGNORE, label == 1
    near = near_border(label, pixel)
    assigned = assignments(activations["maps"])
    attention = {
        "direct": special.softmax(np.asarray(activations["direct"], np.float64), axis=(1, 2)),
        "rectified": np.asarray(activations["rectified"], np.float64),
    }

    def own_class(weights):
        half = len(weights) // 2
        on = share_within(weights, foreground, scored)
        return np.where(np.arange(len(weights)) < half, on, 1 - on)

    points = np.zeros(activations["usage"].shape)
    points.flat[np.asarray(activations["references"])] = 1
    return {
        "reliability": np.asarray(activations["reliability"], np.float64),
        "share_near_border": share_within(assigned, near, scored),
        "border_preference": border_preference(assigned, label, near),
        "agreement": own_class(assigned),
        "cosine": pairwise_cosine(assigned),
        **{f"{name}_on_own_class": own_class(weights) for name, weights in attention.items()},
        "references_near_border": share_within(points[None], near, scored)[0],
        "references_on_foreground": share_within(points[None], foreground, scored)[0],
        "pixels_near_border": near.sum() / scored.sum(),
        "pixels_on_foreground": foreground.sum() / scored.sum(),
    }


def prototype_summary(records: Sequence[Mapping]) -> dict:
    """Over the records of all images: correlations of reliability, pairwise cosines, and positions of references."""
    stacked = {key: np.stack([record[key] for record in records]) for key in records[0]}
    half = stacked["reliability"].shape[1] // 2
    cosines = [group_means(record["cosine"]) for record in records]
    on_own_class = {
        f"{name}_attention_on_own_class": {
            "foreground": float(stacked[f"{name}_on_own_class"][:, :half].mean()),
            "background": float(stacked[f"{name}_on_own_class"][:, half:].mean()),
        }
        for name in ("direct", "rectified")
    }
    scalars = ("references_near_border", "references_on_foreground", "pixels_near_border", "pixels_on_foreground")
    return {
        "images": len(records),
        "prototypes": stacked["reliability"].shape[1],
        "reliability_range": [float(stacked["reliability"].min()), float(stacked["reliability"].max())],
        "reliability_with_share_near_border": correlations(stacked["reliability"], stacked["share_near_border"]),
        "reliability_with_border_preference": correlations(stacked["reliability"], stacked["border_preference"]),
        "reliability_with_agreement": correlations(stacked["reliability"], stacked["agreement"]),
        "mean_agreement": float(stacked["agreement"].mean()),
        "mean_pairwise_cosine": {key: _mean([cosine[key] for cosine in cosines]) for key in cosines[0]},
        **on_own_class,
        **{f"share_of_{key}": _mean(stacked[key].tolist()) for key in scalars},
        "pairwise_cosine": stacked["cosine"].mean(axis=0),
        "mean_reliability": stacked["reliability"].mean(axis=0),
        "mean_share_near_border": stacked["share_near_border"].mean(axis=0),
        "mean_border_preference": stacked["border_preference"].mean(axis=0),
        "mean_agreement_of_each": stacked["agreement"].mean(axis=0),
    }


def correlations(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Correlations of two quantities n k, over prototypes and images; NaN where one of them is constant.

    Also within the foreground or background prototypes of one image, averaged over images (mitochondria are small, so
    all of their prototypes are near borders, and more so in an image with few of them); and between the means of each
    prototype over images.
    """
    half = a.shape[1] // 2

    def within_images(group):
        return _mean([_correlation(stats.spearmanr, *pair) for pair in zip(a[:, group], b[:, group], strict=True)])

    return {
        "spearman": _correlation(stats.spearmanr, a, b),
        "pearson": _correlation(stats.pearsonr, a, b),
        "spearman_within_images_foreground": within_images(slice(None, half)),
        "spearman_within_images_background": within_images(slice(half, None)),
        "spearman_of_means": _correlation(stats.spearmanr, a.mean(axis=0), b.mean(axis=0)),
    }


def _correlation(how, a: np.ndarray, b: np.ndarray) -> float:
    a, b = np.ravel(a), np.ravel(b)
    if len(a) < 3 or np.ptp(a) < 1e-9 or np.ptp(b) < 1e-9:
        return math.nan
    return float(how(a, b).statistic)


def _mean(values: Sequence[float]) -> float:
    """Of the values that are not NaN; NaN if there is none."""
    defined = [value for value in values if not math.isnan(value)]
    return math.fsum(defined) / len(defined) if defined else math.nan
