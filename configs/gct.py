"""GCT, Ke et al. 2020. Values as in the authors' code, except the size of the detector and the ramp."""

from dualrel_jax.configs import base
from ml_collections import ConfigDict


def get_config(arg: str = "phantom,1/32"):
    config = base.get_config(arg)
    config.method = ConfigDict(
        {
            "name": "gct",
            "detector_width": 0,  # channels of the detector's first layer; 0: 2 model.width, at most the authors' 64
            "detector_cells": 8,  # places a side of its flaw map, at least: decides on its strides (authors: 5)
            "detector_rate": 1e-4,  # its Adam's learning rate, falling to 0
            "error_scale": 0.5,  # mu, factor of the absolute error summed over classes
            "dilations": 1,  # nu, how often the error is dilated and blurred
            "flaw_floor": 0.1,  # a flaw map that nowhere exceeds this counts as no flaw
            "flaw_threshold": 0.6,  # xi, from here on a pixel is flawed
            "correction_weight": 1.0,  # flaws found in both networks
            "consistency_weight": 100.0,  # with the less flawed of the two, ramped
            "detector_weight": 10.0,  # the detector's own loss
        }
    )
    return config
