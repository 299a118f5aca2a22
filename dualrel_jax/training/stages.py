"""The two stages of a training, each as a config.

The first learns from the labels and, by its method, from slices without labels. The second starts from its weights and
learns from labels alone: the true ones, and masks of all training slices that the first one makes.
"""

from ml_collections import ConfigDict


def second_stage(config: ConfigDict) -> ConfigDict | None:
    """`config` with the steps of the second stage; None where there is none."""
    at_once = config.train.steps_per_call
    steps = round(config.train.second_stage_fraction * config.train.steps / at_once) * at_once
    return with_train(config, steps=steps) if steps else None


def with_train(config: ConfigDict, **fields) -> ConfigDict:
    """A copy of `config` with other values of `train`."""
    config = config.copy_and_resolve_references().unlock()
    config.train.update(fields)
    return config
