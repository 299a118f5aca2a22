"""DualRel (this package): the paper's modules, with pixel terms and a zoomed view beside them.

Every value here is ours: the paper's supplement gives none of them (docs/method.md). configs/dualrel_paper.py is the
paper's method alone.
"""

from dualrel_jax.configs import base
from ml_collections import ConfigDict

from dualrel_jax.config import rules
from dualrel_jax.config.schema import field

PREDICTION_HEADS = ("head", "prototypes", "mean")
FIELDS = {
    "name": field("dualrel", "the method; others have config files of their own", choices=("dualrel",)),
    # Module 1: reliable pixel aggregation.
    "feature_level": field(
        1, "decoder level that the prototypes read: features at a stride of 2^level cells", minimum=0, maximum=7
    ),
    "num_prototypes": field(
        16, "K, prototypes, the first half for mitochondria", minimum=2, maximum=1024, multiple_of=2
    ),
    "num_references": field(64, "N of Eq. 5, reference points per image", minimum=2, maximum=65536),
    "dim": field(32, "C, channels of prototypes", minimum=1, maximum=4096),
    "rectification": field(
        "add", "correlation: direct + gain * referential, or the direct one alone (ablation)", choices=("add", "direct")
    ),
    "temperature": field(0.1, "tau of the activation maps", minimum=0.001, maximum=100),
    # Module 2: reliable prototype selection.
    "reliability": field(
        "class",
        "learned from: the pixels of a prototype are of its class, two views agree, or equal for all (ablation)",
        choices=("class", "consistency", "uniform"),
    ),
    # Pixels: the teacher's probabilities on the strong view, its labels on a CutMix view.
    "strong_scale": field(
        (0.5, 2.0), "zoom of the strong view relative to the teacher's; (1.0, 1.0): none", minimum=0.1, maximum=10
    ),
    # Weights of the terms beside the supervised one.
    "prototype_weight": field(0.5, "weight of the segmentation by prototypes", minimum=0, maximum=1e4),
    "diversity_weight": field(0.1, "weight of the diversity of prototypes", minimum=0, maximum=1e4),
    "prototype_consistency_weight": field(
        0.1, "weight of the consistency of prototypes, ramped", minimum=0, maximum=1e4
    ),
    "pixel_consistency_weight": field(20.0, "weight of the consistency MSE of pixels, ramped", minimum=0, maximum=1e4),
    "cross_pseudo_label_weight": field(2.0, "weight of the cross pseudo-label loss, ramped", minimum=0, maximum=1e4),
    "prediction_head": field("head", "default prediction", choices=PREDICTION_HEADS),
}


def get_config(arg: str = "phantom,1/32") -> ConfigDict:
    return base.get_config(arg, FIELDS)


def check(config: ConfigDict) -> None:
    rules.check_feature_level(config)
    if config.method.cross_pseudo_label_weight:
        rules.check_cutmix(config)
