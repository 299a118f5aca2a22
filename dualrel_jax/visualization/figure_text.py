"""The numbers of the figures as Markdown: a sentence per claim of the paper and run, with a verdict for or against."""

import math
from collections.abc import Mapping

NO_CORRELATION = 0.1  # a weaker one, of some hundred prototypes, supports nothing


def describe_figures(numbers: Mapping) -> str:
    """The text of figures.md; numbers: the content of figures.json, see `figures.write_figures`."""
    runs = numbers["runs"]
    prototypes = {name: run["prototypes"] for name, run in runs.items() if "prototypes" in run}
    lines = [
        f"# Figures on {', '.join(numbers['part'])}",
        "",
        f"{len(numbers['z'])} slices, pixels of {numbers['pixel'][0]:g} x {numbers['pixel'][1]:g} {numbers['unit']}; "
        f'"at the border" means within {numbers["near_px"]} pixels of the border of a mitochondrion.',
        "",
        "## Claim: confusion is concentrated at borders (confusion)",
        *(f"- {name}: {_describe_confusion(run['confusion'])}" for name, run in runs.items()),
        "",
        "## Slices with the lowest and the highest JAC (masks)",
        *_describe_extreme_slices(numbers),
    ]
    if prototypes:
        lines += [
            "",
            "## Claim: unreliable prototypes are active at borders (reliability, reliability_at_borders)",
            "Activation is the assignment: the softmax over prototypes of the activation maps at each pixel.",
            *(f"- {name}: {_describe_reliability(summary)}" for name, summary in prototypes.items()),
            "",
            "## Claim: the diversity loss keeps prototypes apart (activations, diversity)",
            *(f"- {name}: {_describe_diversity(summary)}" for name, summary in prototypes.items()),
            *(f"- {_compare_diversity(prototypes, *pair)}" for pair in numbers["with_and_without_diversity"]),
            "",
            "## Claim: reference points rectify the correlation (references)",
            *(f"- {name}: {_describe_references(summary)}" for name, summary in prototypes.items()),
        ]
    return "\n".join(lines) + "\n"


def _describe_confusion(summary: Mapping) -> str:
    confusion, area = summary["share_of_confusion_near_border"], summary["share_of_pixels_near_border"]
    verdict = "for" if confusion > area else "against"
    return (
        f"{confusion:.0%} of the confusion lies at the border, with {area:.0%} of the pixels: {confusion / area:.1f} "
        f"times the mean density of {summary['confusion_density']:.4f}. The density at the border is above that "
        f"elsewhere in {summary['slices_denser_near_border']} of {summary['slices']} slices; {verdict} the claim."
    )


def _describe_extreme_slices(numbers: Mapping) -> list[str]:
    """A line for the slice where the first run has its lowest JAC, and one for its highest."""
    runs = numbers["runs"]
    jac = next(iter(runs.values()))["jac"]
    defined = (i for i, value in enumerate(jac) if not math.isnan(value))
    ranked = sorted(defined, key=lambda i: (jac[i], numbers["z"][i]))
    return [
        f"- z = {numbers['z'][i]}: JAC " + ", ".join(f"{name} {run['jac'][i]:.3f}" for name, run in runs.items()) + "."
        for i in dict.fromkeys((ranked[0], ranked[-1]))
    ]


def _describe_reliability(summary: Mapping) -> str:
    kinds = ("share_near_border", "border_preference", "agreement")
    near, preference, agreement = (summary[f"reliability_with_{kind}"] for kind in kinds)
    if math.isnan(near["spearman"]):
        return "every prototype is equally reliable, so the claim cannot be tested."
    foreground, background = (near[f"spearman_within_images_{side}"] for side in ("foreground", "background"))
    return (
        f"over {summary['prototypes']} prototypes in {summary['images']} images, reliability and the fraction of "
        f"activation at the border have Spearman {near['spearman']:+.2f} and Pearson {near['pearson']:+.2f}: "
        f"{_verdict(near['spearman'])} the claim. Foreground prototypes are always near borders, and nearer the "
        "smaller the mitochondria are; the mean Spearman within one image is therefore given too: "
        f"{_signed(foreground)} over its foreground prototypes, {_signed(background)} over its background prototypes. "
        "Border preference (mean activation at the border against that deep inside or far outside) does not depend on "
        f"size; its Spearman is {_signed(preference['spearman'])}: {_verdict(preference['spearman'])} the claim. "
        f"Reliability and agreement with the truth have Spearman {_signed(agreement['spearman'])}; "
        f"{summary['mean_agreement']:.0%} of the activation lies on the prototype's own class."
    )


def _verdict(correlation: float) -> str:
    """The claim predicts a negative correlation."""
    if abs(correlation) < NO_CORRELATION:
        return "neither for nor against"
    return "for" if correlation < 0 else "against"


def _signed(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:+.2f}"


def _describe_diversity(summary: Mapping) -> str:
    mean = summary["mean_pairwise_cosine"]
    return (
        f"with diversity weight {summary['diversity_weight']:g}, the mean cosine of two prototypes is "
        f"{mean['all']:.3f} (two foreground prototypes {mean['foreground']:.3f}, two background prototypes "
        f"{mean['background']:.3f})."
    )


def _compare_diversity(summaries: Mapping, with_loss: str, without: str) -> str:
    cosine, cosine_without = (summaries[name]["mean_pairwise_cosine"]["all"] for name in (with_loss, without))
    verdict = "for" if cosine < cosine_without else "against"
    return f"{with_loss} {cosine:.3f} with the loss, {without} {cosine_without:.3f} without: {verdict} the claim."


def _describe_references(summary: Mapping) -> str:
    direct, rectified = (summary[f"{how}_attention_on_own_class"] for how in ("direct", "rectified"))
    references, pixels = (
        [summary[f"share_of_{what}_{where}"] for where in ("on_foreground", "near_border")]
        for what in ("references", "pixels")
    )
    return (
        f"{references[0]:.0%} of the reference points lie on mitochondria, which are {pixels[0]:.0%} of the pixels; "
        f"{references[1]:.0%} lie at the border, which has {pixels[1]:.0%} of the pixels. Attention on the prototype's "
        f"own class: foreground {direct['foreground']:.0%} direct, {rectified['foreground']:.0%} rectified; "
        f"background {direct['background']:.0%} direct, {rectified['background']:.0%} rectified."
    )
