"""The optimisers a config may name, with warm-up, decay and a clip of the network's own gradient norm."""

import jax
import optax
from ml_collections import ConfigDict

from dualrel_jax.training import schedules

# Muon's update of a kernel is scaled to this root mean square, the usual one of AdamW's (Liu et al. 2025,
# "Muon is scalable for LLM training"). AdamW, which moves every value by about 1, takes the same share of the rate.
UPDATE_RMS = 0.2


def create(train: ConfigDict) -> optax.GradientTransformation:
    """The optimiser of one network: that of `config.train.optimizer`."""
    rate = schedules.learning_rate(train.learning_rate, train.warmup_steps, train.steps)
    return optax.chain(
        optax.clip_by_global_norm(train.clip_norm), OPTIMIZERS[train.optimizer](rate, train.weight_decay)
    )


def adamw(rate: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    return optax.adamw(lambda step: UPDATE_RMS * rate(step), weight_decay=weight_decay)


def muon(rate: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    """Muon (Jordan et al. 2024) for kernels, seen as inputs x outputs matrices.

    Everything else moves by AdamW, with Nesterov's momentum too.
    """
    return optax.contrib.muon(
        rate,
        weight_decay=weight_decay,
        consistent_rms=UPDATE_RMS,
        muon_weight_dimension_numbers=kernels,
        adam_learning_rate=lambda step: UPDATE_RMS * rate(step),
        adam_weight_decay=weight_decay,
    )


def kernels(params):
    """Which axes of each parameter Muon treats as input and output; None for what is no kernel.

    Kernels have 2 axes (dense) or 4 (convolution). With one more the first counts modules stacked by `nn.vmap`, each a
    matrix of its own.
    """

    def axes(path, value):
        if path[-1].key != "kernel":
            return None
        return optax.contrib.MuonDimensionNumbers(tuple(range(value.ndim % 2, value.ndim - 1)), value.ndim - 1)

    return jax.tree_util.tree_map_with_path(axes, params)


OPTIMIZERS = {"muon": muon, "adamw": adamw}
