import math

from dualrel_jax.visualization.figure_text import describe_figures


def numbers(spearman, with_prototypes=True):
    confusion = {
        "confusion_density": 0.02,
        "share_of_confusion_near_border": 0.4,
        "share_of_pixels_near_border": 0.1,
        "slices": 2,
        "slices_denser_near_border": 2,
    }
    correlation = dict.fromkeys(
        (
            *("spearman", "pearson", "spearman_of_means"),
            *("spearman_within_images_foreground", "spearman_within_images_background"),
        ),
        spearman,
    )
    group = {"foreground": 0.5, "background": 0.6}
    runs = {}
    for name, weight, cosine in (("with", 0.1, 0.3), ("without", 0.0, 0.7)):
        runs[name] = {"confusion": confusion, "jac": [math.nan, 0.7]}
        if with_prototypes:
            runs[name]["prototypes"] = {
                "diversity_weight": weight,
                "images": 2,
                "prototypes": 4,
                "reliability_with_share_near_border": correlation,
                "reliability_with_border_preference": correlation,
                "reliability_with_agreement": correlation,
                "mean_agreement": 0.8,
                "mean_pairwise_cosine": {**group, "all": cosine},
                "direct_attention_on_own_class": group,
                "rectified_attention_on_own_class": group,
                **{
                    f"share_of_{what}_{where}": 0.2
                    for what in ("references", "pixels")
                    for where in ("on_foreground", "near_border")
                },
            }
    return {
        "part": ["own/test"],
        "z": [3, 9],
        "pixel": (10.0, 10.0),
        "unit": "nm",
        "near_px": 3,
        "runs": runs,
        "with_and_without_diversity": [("with", "without")],
    }


def test_each_claim_has_a_verdict():
    text = describe_figures(numbers(-0.4))
    assert "40% of the confusion lies at the border, with 10% of the pixels: 4.0 times" in text
    assert "Spearman -0.40 and Pearson -0.40: for the claim" in text
    assert "with 0.300 with the loss, without 0.700 without: for the claim" in text
    assert text.count("z = 9: JAC with 0.700, without 0.700.") == 1 and "z = 3" not in text
    assert "+0.40: against the claim" in describe_figures(numbers(0.4))
    assert "-0.02: neither for nor against the claim" in describe_figures(numbers(-0.02))
    assert "cannot be tested" in describe_figures(numbers(math.nan))
    assert "prototype" not in describe_figures(numbers(0, with_prototypes=False))
