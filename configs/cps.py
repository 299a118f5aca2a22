"""CPS, cross pseudo supervision (Chen et al., CVPR 2021), on plain crops as the paper's supplement compares with."""

from dualrel_jax.configs import base
from ml_collections import ConfigDict

from dualrel_jax.config.schema import field

PREDICTION_HEADS = ("head", "right", "mean")
FIELDS = {
    "name": field("cps", "the method; others have config files of their own", choices=("cps",)),
    "consistency_weight": field(1.5, "weight of the cross pseudo supervision, ramped", minimum=0, maximum=1e4),
}


def get_config(arg: str = "phantom,1/32") -> ConfigDict:
    return base.get_config(arg, FIELDS)
