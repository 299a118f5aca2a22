"""CPS with CutMix (Chen et al., CVPR 2021)."""

import dataclasses

from dualrel_jax.configs import base, cps
from ml_collections import ConfigDict

from dualrel_jax.config import rules
from dualrel_jax.config.schema import field

PREDICTION_HEADS = cps.PREDICTION_HEADS
FIELDS = {
    "name": field("cps_cutmix", "the method; others have config files of their own", choices=("cps_cutmix",)),
    "consistency_weight": dataclasses.replace(cps.FIELDS["consistency_weight"], default=1.0),
}


def get_config(arg: str = "phantom,1/32") -> ConfigDict:
    return base.get_config(arg, FIELDS)


def check(config: ConfigDict) -> None:
    rules.check_cutmix(config)
