"""CCT, Ouali et al. 2020. Counts of decoders as in TorchSemiSeg; weight and strengths as in the authors' code."""

from dualrel_jax.configs import base
from ml_collections import ConfigDict


def get_config(arg: str = "phantom,1/32"):
    config = base.get_config(arg)
    config.method = ConfigDict(
        {
            "name": "cct",
            "num_noise": 2,  # auxiliary decoders of each perturbation: noise on features,
            "num_drop": 2,  # the most active places dropped,
            "num_dropout": 2,  # whole channels dropped,
            "num_cutout": 2,  # a box cut from every predicted object,
            "num_context": 2,  # all but the predicted objects masked,
            "num_object": 2,  # the predicted objects masked,
            "num_vat": 0,  # moved in the direction the decoder minds most
            "auxiliary_width": 8,  # channels of an auxiliary decoder
            "noise_strength": 0.3,  # noise: largest relative change
            "drop_low": 0.7,  # drop: places above a share of the largest activation, drawn from drop_low
            "drop_high": 0.9,  # to drop_high
            "dropout_rate": 0.5,  # dropout: chance that a channel is dropped
            "cutout_share": 0.4,  # cutout: sides of the box relative to those of the object
            "vat_distance": 2.0,  # vat: length of the move, over all features of an image
            "consistency_weight": 30.0,  # lambda, ramped
        }
    )
    return config
