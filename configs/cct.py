"""CCT, Ouali et al. 2020. Counts of decoders as in TorchSemiSeg; weight and strengths as in the authors' code."""

from dualrel_jax.configs import base
from ml_collections import ConfigDict

from dualrel_jax.config.schema import field
from dualrel_jax.errors import InputError

FIELDS = {
    "name": field("cct", "the method; others have config files of their own", choices=("cct",)),
    # Auxiliary decoders of each perturbation.
    "num_noise": field(2, "decoders of features with noise", minimum=0, maximum=32),
    "num_drop": field(2, "decoders without the most active places", minimum=0, maximum=32),
    "num_dropout": field(2, "decoders without some channels", minimum=0, maximum=32),
    "num_cutout": field(2, "decoders without a box in every predicted object", minimum=0, maximum=32),
    "num_context": field(2, "decoders that see the predicted objects alone", minimum=0, maximum=32),
    "num_object": field(2, "decoders that see all but the predicted objects", minimum=0, maximum=32),
    "auxiliary_width": field(8, "channels of an auxiliary decoder", minimum=1, maximum=1024),
    "noise_strength": field(0.3, "noise: largest relative change", minimum=0, maximum=1),
    "drop_low": field(
        0.7, "drop: smallest fraction of the largest activation above which places are dropped", minimum=0, maximum=1
    ),
    "drop_high": field(0.9, "drop: largest such fraction", minimum=0, maximum=1),
    "dropout_rate": field(0.5, "dropout: probability that a channel is dropped", minimum=0, below=1),
    "cutout_fraction": field(0.4, "cutout: sides of the box relative to those of the object", minimum=0, maximum=1),
    "consistency_weight": field(30.0, "lambda, weight of the consistency, ramped", minimum=0, maximum=1e4),
}


def get_config(arg: str = "phantom,1/32") -> ConfigDict:
    return base.get_config(arg, FIELDS)


def check(config: ConfigDict) -> None:
    counts = {key: value for key, value in config.method.items() if key.startswith("num_")}
    if not any(counts.values()):
        raise InputError(f"config.method has 0 for all of {', '.join(counts)}; expected 1 or more for one of them.")
    low, high = config.method.drop_low, config.method.drop_high
    if low > high:
        raise InputError(f"config.method.drop_low is {low}; expected at most config.method.drop_high, which is {high}.")
