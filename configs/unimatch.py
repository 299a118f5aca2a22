"""UniMatch (Yang et al., CVPR 2023), as used on 2-D medical images."""

from dualrel_jax.configs import base
from ml_collections import ConfigDict


def get_config(arg: str = "phantom,1/32"):
    config = base.get_config(arg)
    config.method = ConfigDict(
        {
            "name": "unimatch",
            "pseudo_labels": "student",  # who gives them: student, or teacher (its moving average: version 2)
            "confidence": 0.95,  # pixels at least this sure supervise
            "cutmix_probability": 0.5,  # chance that a box of another crop is pasted into a strong view
            "cutmix_area": (0.02, 0.4),  # share of the crop that the box covers, uniform
            "cutmix_aspect": (0.3, 3.3),  # height / width of the box, log-uniform
            "channel_dropout": 0.5,  # share of the channels of every skip dropped in the feature branch
            "consistency_weight": 1.0,  # of the unlabelled terms, relative to the published loss
        }
    )
    return config
