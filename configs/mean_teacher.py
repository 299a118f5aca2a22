"""Mean Teacher (Tarvainen and Valpola, NeurIPS 2017)."""

from dualrel_jax.configs import base
from ml_collections import ConfigDict

from dualrel_jax.config.schema import field

FIELDS = {
    "name": field("mean_teacher", "the method; others have config files of their own", choices=("mean_teacher",)),
    "consistency_weight": field(
        10.0, "weight of the squared error, ramped; published values are 0.1 to 100", minimum=0, maximum=1e4
    ),
}


def get_config(arg: str = "phantom,1/32") -> ConfigDict:
    return base.get_config(arg, FIELDS)
