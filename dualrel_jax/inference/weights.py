"""Weights of a trained model, of a run or a file, for another training to start from."""

import dataclasses
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax import starter
from dualrel_jax.errors import InputError
from dualrel_jax.inference.run import load_weights
from dualrel_jax.methods import create_method, first_segmenters
from dualrel_jax.training.state import TrainState, abstract_state
from dualrel_jax.training.weights_file import FILE_NAMES, flat_names, flatten, named, read_file
from dualrel_jax.utils import sharding
from dualrel_jax.utils.jsonl import read_json
from dualrel_jax.utils.text import format_shape

_EXPECTED = "expected the folder of a run, or a .safetensors file as dualrel export writes"
_UNET = ("encoder", "decoder")
_WITHOUT_UNET = r"\1/"


@dataclasses.dataclass(frozen=True)
class StartingWeights:
    """Weights that fit a method.

    Attributes:
        variables: name, as `flatten` gives it, -> array, of those that the trained model has too.
        fresh: parts of the method that it does not have, such as `student/bank`.
        source: where they are from: path, digest and, of a run, step and pixel_nm.
    """

    variables: dict[str, np.ndarray]
    fresh: list[str]
    source: dict

    def describe(self, pixel_nm: tuple[float, float] | None) -> str:
        """What the training starts from, in sentences; `pixel_nm` (y, x): its own pixel size."""
        step = f", step {self.source['step']}" if "step" in self.source else ""
        fresh = f"; new, for it has none: {', '.join(self.fresh)}" if self.fresh else ""
        text = f"Starting from the weights of {self.source['path']}{step}{fresh}."
        earlier = self.source.get("pixel_nm")
        if earlier and pixel_nm and not np.allclose(earlier, pixel_nm, rtol=0.1):
            text += f" They learned at {earlier[0]:g} nm per pixel, this training has {pixel_nm[0]:g} nm:"
            text += " --set data.pixel_nm and data.upsample make them alike."
        return text

    def put_into(self, state: TrainState, mesh: jax.sharding.Mesh) -> TrainState:
        """The state with these weights, in students and teachers."""
        names = flat_names(state.variables)
        leaves, structure = jax.tree.flatten(state.variables)
        merged = [self.variables.get(name, leaf) for name, leaf in zip(names, leaves, strict=True)]
        copies = jax.jit(lambda x: (x, jax.tree.map(jnp.copy, x)), out_shardings=sharding.replicated(mesh))
        students, teachers = copies(jax.tree.unflatten(structure, merged))
        return state.replace(variables=students, teacher=teachers)


def starting_weights(config: ConfigDict, workdir: Path) -> StartingWeights | None:
    """Those that `config.train.init` names; None if it names none, or the training in `workdir` has begun.

    Raises:
        InputError: there is no such run or file, or its U-Net is not that of the config.
    """
    if not config.train.init or any((workdir / "checkpoints").glob("[0-9]*")):
        return None
    path = starter.folder(config.train.init)
    if path.resolve() == workdir.resolve():
        raise InputError(f"config.train.init is {path}, the folder of this training; name another run.")
    weights, source = read_weights(path)
    shapes = {
        name: leaf.shape
        for name, leaf in zip(*named(abstract_state(create_method(config), config).variables), strict=True)
    }
    variables, fresh = fit(weights, shapes, str(path))
    return StartingWeights(variables, fresh, source)


def read_weights(path: Path) -> tuple[dict[str, np.ndarray], dict]:
    """(name -> array, source) of a run's last checkpoint, its teachers, or of a file; InputError if it is neither."""
    file = next((path / name for name in FILE_NAMES if (path / name).is_file()), path)
    if (path / "config.json").is_file() and (path / "checkpoints").is_dir():
        config = config_lib.load(path / "config.json")
        step, teacher = load_weights(path, config, "teacher")
        weights = flatten(teacher)
        pixel_nm = read_json(path / "run.json", {}, "copy it from where the run was trained").get("pixel_nm")
        source = {"path": str(path.resolve()), "step": step, "pixel_nm": pixel_nm}
    elif file.suffix == ".safetensors" and file.is_file():
        weights = read_file(file, _EXPECTED)
        source = {"path": str(file.resolve())}
    else:
        reason = "is neither" if path.exists() else "does not exist"
        raise InputError(f"config.train.init is {path}, which {reason}; {_EXPECTED}.")
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + np.ascontiguousarray(weights[name]).tobytes())
    return weights, {**source, "sha256": digest.hexdigest()}


def fit(
    weights: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], origin: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """(the weights by the names of `shapes`, the parts that there are none for).

    Raises:
        InputError: the U-Net is another one.
    """
    known = {_canonical(name): array for name, array in weights.items()}
    fitting, fresh = {}, {}
    for name, shape in shapes.items():
        array = known.get(_canonical(name))
        if array is not None and array.shape == shape and np.issubdtype(array.dtype, np.floating):
            fitting[name] = array.astype(np.float32)
        elif _canonical(name).startswith("first/") and _part(name) in _UNET:
            has = "no such array" if array is None else f"one of {format_shape(array.shape)}"
            raise InputError(
                f"config.train.init is {origin}, whose U-Net is another one: {name} is {format_shape(shape)} here, and "
                f"there is {has} there; train with its model.stem, model.width, model.depth and model.norm."
            )
        else:
            network = name.partition("/")[0]
            fresh[network if _part(name) in _UNET else f"{network}/{_part(name)}"] = None
    return fitting, list(fresh)


def _canonical(name: str) -> str:
    """The name that methods share: their U-Net lies at another depth, and the first network has another name."""
    network, _, rest = name.partition("/")
    return f"{'first' if network in first_segmenters() else network}/{re.sub('^([a-z_]+)/unet/', _WITHOUT_UNET, rest)}"


def _part(name: str) -> str:
    """`encoder` of `student/params/unet/encoder/Conv_0/kernel`."""
    return _canonical(name).split("/")[2]
