"""DualRel (as in the supplement): what the paper's supplement states, and as little else as a training needs.

Given: prototypes from reliable pixels (Eq. 5, referential correlation), a diversity loss between their activation maps,
fused prototypes as the segmentation, and consistency of prototypes between two views, weighted by a reliability that is
learned through this consistency alone. Left out, as the supplement has none of it: consistency of pixels, cross
pseudo-labels, the zoomed view. Ours, as the supplement gives no values: all numbers, and a U-Net head that is trained
on the labels beside the prototypes.
"""

import dataclasses

from dualrel_jax.configs import base, dualrel
from ml_collections import ConfigDict

from dualrel_jax.config.schema import field

PREDICTION_HEADS = dualrel.PREDICTION_HEADS
DEFAULTS = {  # that differ from those of configs/dualrel.py
    "reliability": "consistency",
    "strong_scale": (1.0, 1.0),
    "prototype_weight": 1.0,
    "prototype_consistency_weight": 1.0,
    "pixel_consistency_weight": 0.0,
    "cross_pseudo_label_weight": 0.0,
    "prediction_head": "prototypes",
}
FIELDS = {
    **dualrel.FIELDS,
    "name": field("dualrel_paper", "the method; others have config files of their own", choices=("dualrel_paper",)),
    **{name: dataclasses.replace(dualrel.FIELDS[name], default=default) for name, default in DEFAULTS.items()},
}


def get_config(arg: str = "phantom,1/32") -> ConfigDict:
    return base.get_config(arg, FIELDS)


def check(config: ConfigDict) -> None:
    dualrel.check(config)
