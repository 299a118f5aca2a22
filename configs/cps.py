"""CPS, cross pseudo supervision (Chen et al., CVPR 2021), on plain crops as the paper's supplement compares with."""

from dualrel_jax.configs import base
from ml_collections import ConfigDict


def get_config(arg: str = "phantom,1/32"):
    config = base.get_config(arg)
    config.method = ConfigDict(
        {
            "name": "cps",
            "cutmix": False,  # True: cross supervision on unlabelled crops pasted into each other
            "consistency_weight": 1.5,  # of the cross pseudo supervision, ramped
        }
    )
    return config
