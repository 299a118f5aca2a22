"""UniMatch (Yang et al., CVPR 2023), as used on 2-D medical images."""

from dualrel_jax.configs import base
from ml_collections import ConfigDict

from dualrel_jax.config import rules
from dualrel_jax.config.schema import field

FIELDS = {
    "name": field("unimatch", "the method; others have config files of their own", choices=("unimatch",)),
    "confidence": field(0.95, "pixels with at least this probability supervise", minimum=0, maximum=1),
    "cutmix_probability": field(
        0.5, "probability that a box of another crop is pasted into a strong view", minimum=0, maximum=1
    ),
    "cutmix_area": field((0.02, 0.4), "fraction of the crop that the box covers, uniform", above=0, maximum=1),
    "cutmix_aspect": field((0.3, 3.3), "height / width of the box, log-uniform", minimum=0.01, maximum=100),
    "channel_dropout": field(
        0.5, "fraction of the channels of every skip that are dropped in the feature branch", minimum=0, below=1
    ),
    "consistency_weight": field(
        1.0, "weight of the unlabelled terms relative to the published loss, ramped", minimum=0, maximum=1e4
    ),
}


def get_config(arg: str = "phantom,1/32") -> ConfigDict:
    return base.get_config(arg, FIELDS)


def check(config: ConfigDict) -> None:
    rules.check_cutmix(config)
