"""The supervised baseline. configs/supervised.py:lucchi,1/32 trains on few slices, ...:lucchi,all on every label."""

from dualrel_jax.configs import base
from ml_collections import ConfigDict


def get_config(arg: str = "phantom,1/32"):
    config = base.get_config(arg)
    config.method = ConfigDict({"name": "supervised"})
    return config
