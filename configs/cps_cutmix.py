"""CPS with CutMix (Chen et al., CVPR 2021)."""

from dualrel_jax.configs import cps


def get_config(arg: str = "phantom,1/32"):
    config = cps.get_config(arg)
    config.method.update({"cutmix": True, "consistency_weight": 1.0})
    return config
