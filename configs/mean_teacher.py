"""Mean Teacher (Tarvainen and Valpola, NeurIPS 2017)."""

from dualrel_jax.configs import base
from ml_collections import ConfigDict


def get_config(arg: str = "phantom,1/32"):
    config = base.get_config(arg)
    config.method = ConfigDict(
        {
            "name": "mean_teacher",
            "consistency_weight": 10.0,  # of the squared error, ramped; published values span 0.1 to 100
        }
    )
    return config
