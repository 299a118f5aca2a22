"""The supervised baseline. configs/supervised.py:lucchi,1/32 trains on few slices, ...:lucchi,all on every label."""

from dualrel_jax.configs import base
from ml_collections import ConfigDict

from dualrel_jax.config.schema import field

FIELDS = {
    "name": field("supervised", "the method; others have config files of their own", choices=("supervised",)),
}


def get_config(arg: str = "phantom,1/32") -> ConfigDict:
    return base.get_config(arg, FIELDS)
