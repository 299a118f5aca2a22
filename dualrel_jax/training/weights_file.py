"""Weights as one dictionary of arrays, and as a safetensors file."""

from pathlib import Path

import jax
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from dualrel_jax.errors import InputError
from dualrel_jax.methods.base import Variables

FILE_NAMES = ("weights.safetensors", "model.safetensors")  # in a folder that `export` wrote


def read_file(path: Path, expected: str) -> dict[str, np.ndarray]:
    """name -> array of a .safetensors file; InputError, which says what was `expected`, if it cannot be read."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {expected}.") from error


def flatten(variables: Variables) -> dict[str, np.ndarray]:
    """Nested dictionaries as one, with keys such as `student/params/unet/encoder/ConvBlock_0/Conv_0/kernel`."""
    names, leaves = named(jax.device_get(variables))
    return {name: np.asarray(leaf, order="C") for name, leaf in zip(names, leaves, strict=True)}


def unflatten(weights: dict[str, jax.Array]) -> Variables:
    """The inverse of `flatten`."""
    variables: dict = {}
    for name, leaf in weights.items():
        *path, last = name.split("/")
        node = variables
        for key in path:
            node = node.setdefault(key, {})
        node[last] = leaf
    return variables


def flat_names(variables: Variables) -> list[str]:
    return named(variables)[0]


def named(variables: Variables) -> tuple[list[str], list]:
    """Names as `flatten` gives them, and the arrays."""
    leaves = jax.tree.leaves_with_path(variables)
    return ["/".join(key.key for key in path) for path, _ in leaves], [leaf for _, leaf in leaves]
