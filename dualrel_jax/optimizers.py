"""The optimisers a config may name, with warm-up, decay and a clip of the network's own gradient norm."""

import jax
import optax
from ml_collections import ConfigDict

from dualrel_jax import schedules
from dualrel_jax.orthogonal import orthogonalise

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

    Everything else moves by AdamW, with Nesterov's momentum too. The same as `optax.contrib.muon` up to rounding, with
    its momentum; the matrices are made orthogonal together, which is faster (`orthogonal.py`).
    """
    of_kernels = optax.chain(
        # No steps of its own iteration: the momentum alone.
        optax.contrib.scale_by_muon(ns_steps=0, weight_dimension_numbers=matrix_axes),
        optax.stateless(lambda updates, params: orthogonal_updates(updates)),
        optax.add_decayed_weights(weight_decay),
        optax.scale_by_learning_rate(rate),
    )
    of_others = optax.adamw(lambda step: UPDATE_RMS * rate(step), weight_decay=weight_decay, nesterov=True)
    return optax.partition({"muon": of_kernels, "adam": of_others}, labels)


def labels(params):
    """Which optimiser moves each parameter: muon the kernels, adam all else."""
    return jax.tree_util.tree_map_with_path(lambda path, _: "muon" if path[-1].key == "kernel" else "adam", params)


def matrix_axes(kernels):
    """The last axis is the output, all others together are the input."""
    return jax.tree.map(
        lambda kernel: optax.contrib.MuonDimensionNumbers(tuple(range(kernel.ndim - 1)), kernel.ndim - 1), kernels
    )


def orthogonal_updates(updates):
    """Each kernel's update as an orthogonal matrix, with a root mean square of UPDATE_RMS."""
    leaves, structure = jax.tree.flatten(updates)
    matrices = orthogonalise([leaf.reshape(-1, leaf.shape[-1]) for leaf in leaves])
    scaled = [matrix * (UPDATE_RMS * max(matrix.shape) ** 0.5) for matrix in matrices]
    return structure.unflatten([matrix.reshape(leaf.shape) for matrix, leaf in zip(scaled, leaves, strict=True)])


OPTIMIZERS = {"muon": muon, "adamw": adamw}
