"""The two stages of a training, each as a config.

The first learns from the labels and, by its method, from slices without labels. The second starts from its weights and
learns from labels alone: the true ones, and masks of all training slices that the first one makes.
"""

from ml_collections import ConfigDict

from dualrel_jax import config as config_lib


def second_stage(config: ConfigDict) -> ConfigDict | None:
    """`config` with the steps of the second stage; None where there is none."""
    at_once = config.train.steps_per_call
    steps = round(config.train.second_stage_fraction * config.train.steps / at_once) * at_once
    return config_lib.changed(config, {"train.steps": steps}) if steps else None
