"""Probability maps of slices of any size, by tiles."""

import jax
import numpy as np
from ml_collections import ConfigDict

from dualrel_jax import parallel
from dualrel_jax.data import augment
from dualrel_jax.errors import InputError
from dualrel_jax.methods.base import Method, Variables
from dualrel_jax.tiling import Tiles


class Predictor:
    """Probability maps of slices of any size, by overlapping tiles with blended borders.

    Tiles have one size, so the network is compiled once a volume.
    """

    def __init__(self, method: Method, config: ConfigDict, mesh: jax.sharding.Mesh):
        self._settings = config.predict
        self._multiple = 2 ** (config.model.depth - 1)
        self._mesh = mesh
        # Slices computed at a time: one is on the device while the host prepares or merges the tiles of another.
        # Several devices exchange results, which must happen in one order on all of them: one slice after the other.
        self.in_flight = 2 if mesh.size == 1 else 1

        def forward(variables: Variables, tiles: jax.Array) -> jax.Array:
            return chosen_output(method, config, variables, parallel.shard_batch(tiles, mesh))

        self._forward = jax.jit(forward, out_shardings=parallel.replicated(mesh))

    def __call__(self, variables: Variables, image: np.ndarray) -> np.ndarray:
        """uint8 y x at the training pixel size -> float32 y x."""
        if not self._settings.flips:
            return self._predict(variables, image)
        turned = [(lambda a, k=k, t=t: np.rot90(a.T if t else a, k)) for k in range(4) for t in (False, True)]
        back = [
            (lambda a, k=k, t=t: np.rot90(a, -k).T if t else np.rot90(a, -k)) for k in range(4) for t in (False, True)
        ]
        views = [undo(self._predict(variables, do(image))) for do, undo in zip(turned, back, strict=True)]
        return np.mean(views, axis=0)

    def _predict(self, variables: Variables, image: np.ndarray) -> np.ndarray:
        tiles = Tiles(image.shape, self._settings.tile, self._settings.overlap, self._multiple)
        cut = tiles.cut(np.ascontiguousarray(image))
        # Equal calls, none nearly empty: 6 tiles at a batch of 4 make 3 + 3.
        calls = -(-len(cut) // self._settings.batch)
        size = -(-len(cut) // calls)
        size += -size % self._mesh.size
        padded = np.concatenate([cut, np.zeros((calls * size - len(cut), *cut.shape[1:]), cut.dtype)])
        outputs = [
            np.asarray(self._forward(variables, parallel.replicate(chunk, self._mesh)))
            for chunk in padded.reshape(calls, size, *cut.shape[1:])
        ]
        return tiles.merge(np.concatenate(outputs)[: len(cut)])


def chosen_output(method: Method, config: ConfigDict, variables: Variables, image: jax.Array) -> jax.Array:
    """The prediction `config.predict.output_of` for uint8 b y x, b y x; InputError if the method has none such."""
    outputs = method.predict(variables, augment.to_float(image))
    if config.predict.output_of not in outputs:
        raise InputError(
            f"config.predict.output_of is {config.predict.output_of!r}; this method has {', '.join(outputs)}."
        )
    return outputs[config.predict.output_of]
