"""GCT, Ke et al. 2020. Values as in the authors' code, except the size of the detector and the ramp."""

from dualrel_jax.configs import base
from ml_collections import ConfigDict

from dualrel_jax.config.schema import field

PREDICTION_HEADS = ("head", "right", "mean")
FIELDS = {
    "name": field("gct", "the method; others have config files of their own", choices=("gct",)),
    "detector_width": field(
        0,
        "channels of the detector's first layer",
        minimum=2,
        maximum=1024,
        special="2 model.width, at most the authors' 64",
    ),
    "detector_cells": field(
        8, "least side of the detector's map, which sets its strides (authors: 5)", minimum=1, maximum=1024
    ),
    "detector_rate": field(1e-4, "initial learning rate of the detector's Adam, falling to 0", above=0, maximum=1),
    "error_scale": field(0.5, "mu, factor of the absolute error summed over classes", above=0, maximum=100),
    "dilations": field(1, "nu, how often the error is dilated and blurred", minimum=0, maximum=16),
    "flaw_floor": field(0.1, "a flaw map that is nowhere above this counts as no flaw", minimum=0, maximum=1),
    "flaw_threshold": field(0.6, "xi, above this a pixel is flawed", minimum=0, maximum=1),
    "correction_weight": field(1.0, "weight of the flaw correction, where both are flawed", minimum=0, maximum=1e4),
    "consistency_weight": field(
        100.0, "weight of the consistency with the less flawed network, ramped", minimum=0, maximum=1e4
    ),
    "detector_weight": field(10.0, "weight of the detector's own loss", minimum=0, maximum=1e4),
}


def get_config(arg: str = "phantom,1/32") -> ConfigDict:
    return base.get_config(arg, FIELDS)
