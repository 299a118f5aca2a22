"""What predictions and prototypes do at the borders of mitochondria, as numbers.

Shapes: a slice or tile y x; k prototypes, the first half for mitochondria; feature maps are coarser than their label
by a whole factor. Lengths are in the unit of `pixel`, the size (y, x) of a pixel.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import ndimage, special, stats

from dualrel_jax.constants import IGNORE

NEAR_PX = 3  # "at the border": within this many pixels on either side of it
NO_CORRELATION = 0.1  # a weaker one, of some hundred prototypes, decides nothing
CONFUSION_EDGES = np.linspace(0, 1, 51)
DISTANCE_EDGES_PX = np.arange(-15, 31)


def confusion(probability: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Eq. 1, one minus the probability of the true class: y x; NaN where the label is ignored."""
    return np.where(label == IGNORE, np.nan, np.abs((label == 1) - probability).clip(0, 1))


def has_border(label: np.ndarray) -> bool:
    return bool((label == 1).any() and (label == 0).any())


def signed_distance(label: np.ndarray, pixel: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Distance of each pixel to the nearest border of a mitochondrion, negative inside: y x.

    It is the distance to the nearest pixel of the other class less half a pixel, because the border lies between the
    two. Infinite in a slice without the other class. An ignored pixel is neither class and counts as outside itself.
    """
    inside = label == 1

    def distance_to(pixels):
        if not pixels.any():
            return np.full(label.shape, np.inf)
        return ndimage.distance_transform_edt(~pixels, sampling=pixel) - math.sqrt(pixel[0] * pixel[1]) / 2

    return np.where(inside, -distance_to(label == 0), distance_to(inside))


def near_border(label: np.ndarray, pixel: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Pixels within NEAR_PX of a border and not ignored: y x bool."""
    near = np.abs(signed_distance(label, pixel)) < NEAR_PX * math.sqrt(pixel[0] * pixel[1])
    return near & (label != IGNORE)


# ---------------------------------------------------------------------------------------------------------------------
# Confusion
# ---------------------------------------------------------------------------------------------------------------------


def confusion_counts(probability: np.ndarray, label: np.ndarray, pixel: tuple[float, float]) -> dict:
    """Sums over the scored pixels of one slice; those of several slices add up."""
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
    """Confusion density (Eq. 2), where the confusion is, and how it is distributed, over all slices; NaN for 0/0."""
    total = {key: sum(one[key] for one in counts) for key in counts[0]}
    with np.errstate(invalid="ignore"):  # a distance without pixels
        return {
            "confusion_density": _ratio(total["confusion"], total["pixels"]),
            "share_of_confusion_near_border": _ratio(total["near_confusion"], total["confusion"]),
            "share_of_pixels_near_border": _ratio(total["near_pixels"], total["pixels"]),
            "slices": len(counts),
            "slices_denser_near_border": sum(
                one["near_confusion"] * one["pixels"] > one["confusion"] * one["near_pixels"] for one in counts
            ),
            "histogram_edges": CONFUSION_EDGES,
            "histogram_share_of_pixels": total["histogram"] / total["pixels"],
            "distance_edges_px": DISTANCE_EDGES_PX,
            "confusion_density_by_distance": total["confusion_by_distance"] / total["pixels_by_distance"],
            "pixels_by_distance": total["pixels_by_distance"],
        }


# ---------------------------------------------------------------------------------------------------------------------
# Prototypes
# ---------------------------------------------------------------------------------------------------------------------


def assignments(maps: np.ndarray) -> np.ndarray:
    """How each pixel is shared out among the prototypes: softmax over k of activation maps k y x."""
    return special.softmax(np.asarray(maps, np.float64), axis=0)


def share_within(weights: np.ndarray, region: np.ndarray, scored: np.ndarray) -> np.ndarray:
    """Share of each map of weights, k y x, that lies in a region: k. Only scored pixels count.

    region and scored are bool Y X at the pixels of the label; a weight is spread evenly over its feature pixel.
    """
    inside = np.tensordot(weights, block_mean(region & scored, weights.shape[1:]), 2)
    return inside / np.tensordot(weights, block_mean(scored, weights.shape[1:]), 2)


def border_preference(weights: np.ndarray, label: np.ndarray, near: np.ndarray) -> np.ndarray:
    """Mean weight near the border, n, against the larger of those deep inside and far outside, m: n / (n + m), k.

    1/2: as active at the border as where it is most at home; 1: there alone. Unlike the share near the border, it does
    not grow as mitochondria get smaller. weights k y x; label and near Y X.
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
    """Mean over the pairs of prototypes of a group: k k, symmetric -> {foreground, background, all}; NaN: no pair."""
    half = len(matrix) // 2
    groups = {"foreground": matrix[:half, :half], "background": matrix[half:, half:], "all": matrix}
    pairs = {name: group[np.triu_indices(len(group), 1)] for name, group in groups.items()}
    return {name: float(values.mean()) if values.size else math.nan for name, values in pairs.items()}


def prototype_record(found: Mapping[str, np.ndarray], label: np.ndarray, pixel: tuple[float, float]) -> dict:
    """Of one image with its label Y X: where each prototype is active, k, and how alike they are, k k.

    found: `activations` of a method with prototypes, for one image (no batch axis).
    """
    scored, foreground = label != IGNORE, label == 1
    near = near_border(label, pixel)
    shared = assignments(found["maps"])
    attention = {
        "direct": special.softmax(np.asarray(found["direct"], np.float64), axis=(1, 2)),
        "rectified": np.asarray(found["rectified"], np.float64),
    }

    def own_class(weights):
        half = len(weights) // 2
        on = share_within(weights, foreground, scored)
        return np.where(np.arange(len(weights)) < half, on, 1 - on)

    points = np.zeros(found["usage"].shape)
    points.flat[np.asarray(found["references"])] = 1
    return {
        "reliability": np.asarray(found["reliability"], np.float64),
        "share_near_border": share_within(shared, near, scored),
        "border_preference": border_preference(shared, label, near),
        "agreement": own_class(shared),
        "cosine": pairwise_cosine(shared),
        **{f"{name}_on_own_class": own_class(weights) for name, weights in attention.items()},
        "references_near_border": share_within(points[None], near, scored)[0],
        "references_on_foreground": share_within(points[None], foreground, scored)[0],
        "pixels_near_border": near.sum() / scored.sum(),
        "pixels_on_foreground": foreground.sum() / scored.sum(),
    }


def prototype_summary(records: Sequence[Mapping]) -> dict:
    """Over all images: correlations of reliability, mean pairwise cosines, and where references and attention lie."""
    of = {key: np.stack([record[key] for record in records]) for key in records[0]}
    half = of["reliability"].shape[1] // 2
    cosines = [group_means(record["cosine"]) for record in records]
    on_own_class = {
        f"{name}_attention_on_own_class": {
            "foreground": float(of[f"{name}_on_own_class"][:, :half].mean()),
            "background": float(of[f"{name}_on_own_class"][:, half:].mean()),
        }
        for name in ("direct", "rectified")
    }
    scalars = ("references_near_border", "references_on_foreground", "pixels_near_border", "pixels_on_foreground")
    return {
        "images": len(records),
        "prototypes": of["reliability"].shape[1],
        "reliability_range": [float(of["reliability"].min()), float(of["reliability"].max())],
        "reliability_with_share_near_border": correlations(of["reliability"], of["share_near_border"]),
        "reliability_with_border_preference": correlations(of["reliability"], of["border_preference"]),
        "reliability_with_agreement": correlations(of["reliability"], of["agreement"]),
        "mean_agreement": float(of["agreement"].mean()),
        "mean_pairwise_cosine": {key: _mean([cosine[key] for cosine in cosines]) for key in cosines[0]},
        **on_own_class,
        **{f"share_of_{key}": _mean(of[key].tolist()) for key in scalars},
        "pairwise_cosine": of["cosine"].mean(axis=0),
        "mean_reliability": of["reliability"].mean(axis=0),
        "mean_share_near_border": of["share_near_border"].mean(axis=0),
        "mean_border_preference": of["border_preference"].mean(axis=0),
        "mean_agreement_of_each": of["agreement"].mean(axis=0),
    }


def correlations(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Of two quantities n k, over prototypes and images; NaN where one of them is constant.

    Also among the foreground or background prototypes of one image, averaged over images: mitochondria are small, so
    all of their prototypes are near borders, the more so in an image of few; and of each prototype's mean over images.
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
    """Of those that are not NaN; NaN if there is none."""
    defined = [value for value in values if not math.isnan(value)]
    return _ratio(math.fsum(defined), len(defined))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


# ---------------------------------------------------------------------------------------------------------------------
# In words
# ---------------------------------------------------------------------------------------------------------------------


def in_words(numbers: Mapping) -> str:
    """What the figures say, a sentence a claim and run, for or against; Markdown. numbers: what `figures` gathers."""
    runs = numbers["runs"]
    with_prototypes = {name: one["prototypes"] for name, one in runs.items() if "prototypes" in one}
    jac = next(iter(runs.values()))["jac"]
    ranked = sorted((value, z, i) for i, (value, z) in enumerate(zip(jac, numbers["z"], strict=True)) if value == value)
    lines = [
        f"# Figures on {', '.join(numbers['part'])}",
        "",
        f"{len(numbers['z'])} slices at {numbers['pixel'][0]:g} x {numbers['pixel'][1]:g} {numbers['unit']} a pixel; "
        f'"at the border" is within {numbers["near_px"]} pixels of it.',
        "",
        "## Confusion sits at borders (confusion)",
        *(f"- {name}: {_confusion_in_words(one['confusion'])}" for name, one in runs.items()),
        "",
        "## Worst and best slices (masks)",
        *(f"- z = {z}: " + _jac_in_words(runs, i) for _, z, i in dict.fromkeys((ranked[0], ranked[-1]))),
    ]
    if with_prototypes:
        lines += [
            "",
            "## Unreliable prototypes are active at borders (reliability, reliability_at_borders)",
            "Activation is the assignment, the softmax over prototypes of the activation maps at each pixel.",
            *(f"- {name}: {_reliability_in_words(one)}" for name, one in with_prototypes.items()),
            "",
            "## The diversity loss keeps prototypes apart (activations, diversity)",
            *(f"- {name}: {_diversity_in_words(one)}" for name, one in with_prototypes.items()),
            *(f"- {_pair_in_words(with_prototypes, *pair)}" for pair in numbers["with_and_without_diversity"]),
            "",
            "## Reference points rectify the correlation (references)",
            *(f"- {name}: {_references_in_words(one)}" for name, one in with_prototypes.items()),
        ]
    return "\n".join(lines) + "\n"


def _confusion_in_words(found: Mapping) -> str:
    share, area = found["share_of_confusion_near_border"], found["share_of_pixels_near_border"]
    verdict = "for" if share > area else "against"
    return (
        f"{share:.0%} of the confusion lies at the border, with {area:.0%} of the pixels: {share / area:.1f} times the "
        f"mean density of {found['confusion_density']:.4f}, and denser than elsewhere in "
        f"{found['slices_denser_near_border']} of {found['slices']} slices; {verdict} the claim."
    )


def _jac_in_words(runs: Mapping, i: int) -> str:
    return ", ".join(f"{name} {one['jac'][i]:.3f}" for name, one in runs.items()) + " (JAC)."


def _reliability_in_words(found: Mapping) -> str:
    kinds = ("share_near_border", "border_preference", "agreement")
    near, preference, agreement = (found[f"reliability_with_{kind}"] for kind in kinds)
    if math.isnan(near["spearman"]):
        return "every prototype is equally reliable, so the claim cannot be tested."
    sides = [near["spearman_within_images_foreground"], near["spearman_within_images_background"]]
    foreground, background, preferred, right = map(_signed, [*sides, preference["spearman"], agreement["spearman"]])
    verdict, second = (_verdict(one["spearman"]) for one in (near, preference))
    return (
        f"over {found['prototypes']} prototypes in {found['images']} images, reliability and the share of activation "
        f"at the border have Spearman {near['spearman']:+.2f} and Pearson {near['pearson']:+.2f}: {verdict} the claim. "
        "Foreground prototypes are near borders in any case, the more so the smaller mitochondria are: among those of "
        f"one image Spearman is on average {foreground}, among the background prototypes of one image {background}. "
        "With border preference (mean activation at the border against that deep inside or far outside), which size "
        f"does not drive, Spearman is {preferred}: {second} the claim. Reliability and agreement with the truth have "
        f"Spearman {right}; {found['mean_agreement']:.0%} of the activation is on its own class."
    )


def _verdict(correlation: float) -> str:
    """Negative is what the claim expects."""
    if abs(correlation) < NO_CORRELATION:
        return "neither for nor against"
    return "for" if correlation < 0 else "against"


def _signed(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:+.2f}"


def _diversity_in_words(found: Mapping) -> str:
    mean = found["mean_pairwise_cosine"]
    return (
        f"with diversity weight {found['diversity_weight']:g}, two prototypes have a mean cosine of {mean['all']:.3f} "
        f"(two foreground ones {mean['foreground']:.3f}, two background ones {mean['background']:.3f})."
    )


def _pair_in_words(summaries: Mapping, name: str, without: str) -> str:
    more, less = (summaries[one]["mean_pairwise_cosine"]["all"] for one in (without, name))
    verdict = "for" if less < more else "against"
    return f"{name} {less:.3f} with the loss, {without} {more:.3f} without: {verdict} the claim."


def _references_in_words(found: Mapping) -> str:
    direct, rectified = (found[f"{how}_attention_on_own_class"] for how in ("direct", "rectified"))
    return (
        f"{found['share_of_references_on_foreground']:.0%} of the reference points lie on mitochondria (of the pixels "
        f"{found['share_of_pixels_on_foreground']:.0%}), {found['share_of_references_near_border']:.0%} at the border "
        f"(of the pixels {found['share_of_pixels_near_border']:.0%}). Attention on the prototype's own class: "
        f"foreground {direct['foreground']:.0%} direct, {rectified['foreground']:.0%} rectified; background "
        f"{direct['background']:.0%} direct, {rectified['background']:.0%} rectified."
    )
