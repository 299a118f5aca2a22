"""Probability maps of slices of any size, by tiles."""

import itertools
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from ml_collections import ConfigDict

from dualrel_jax.config.rules import side_multiple
from dualrel_jax.data.io.padding import away_from_padding, mirror_tissue
from dualrel_jax.data.pipeline import augment
from dualrel_jax.errors import InputError
from dualrel_jax.inference.tiling import Tiles
from dualrel_jax.methods.base import Method, Variables
from dualrel_jax.utils import sharding


class Predictor:
    """Probability maps of slices of any size, by overlapping tiles with blended borders.

    The tiles of a slice have one size; the network is compiled once for each.
    """

    def __init__(self, method: Method, config: ConfigDict, mesh: jax.sharding.Mesh):
        self._settings = config.predict
        self._multiple = side_multiple(config.model)
        self._mesh = mesh
        self.slices_at_once = mesh.size  # what a call had best be given: then no device waits for another
        # Calls at a time: one is on the device while the host prepares or merges the tiles of another. Several devices
        # exchange results, which must happen in one order on all of them: one call after the other.
        self.in_flight = 2 if mesh.size == 1 else 1

        def forward(variables: Variables, tiles: jax.Array) -> jax.Array:
            return chosen_output(method, config, variables, tiles)

        self._forward = jax.jit(forward, out_shardings=sharding.replicated(mesh))

    def __call__(self, variables: Variables, image: np.ndarray) -> np.ndarray:
        """One slice or several, uint8 [n] y x at the training pixel size -> float32 [n] y x.

        Padding gets 0. The network sees tissue mirrored into it, since it normalises by the whole tile: beside black
        padding it would segment the tissue otherwise.
        """
        images = image if image.ndim == 3 else image[None]
        empty = np.stack([~away_from_padding(each) for each in images])
        if empty.any():
            images = np.stack([mirror_tissue(*pair) for pair in zip(images, empty, strict=True)])
        if self._settings.test_time_augmentation:
            turned = [np.rot90(side, k, (1, 2)) for side in (images, images.swapaxes(1, 2)) for k in range(4)]
            found = [np.rot90(self._predict(variables, view), -(i % 4), (1, 2)) for i, view in enumerate(turned)]
            probability = np.mean(found[:4] + [view.swapaxes(1, 2) for view in found[4:]], axis=0)
        else:
            probability = self._predict(variables, images)
        probability[empty] = 0
        return probability if image.ndim == 3 else probability[0]

    def each(self, variables: Variables, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Every slice of many, y x in and y x out, in order: `slices_at_once` neighbours of one shape in a call."""
        for _, alike in itertools.groupby(images, np.shape):
            while together := list(itertools.islice(alike, self.slices_at_once)):
                yield from self(variables, np.stack(together))

    def _predict(self, variables: Variables, images: np.ndarray) -> np.ndarray:
        tiles = Tiles(images.shape[1:], self._settings.tile, self._settings.overlap, self._multiple)
        cut = np.concatenate([tiles.cut(np.ascontiguousarray(image)) for image in images])
        # Equal calls, none nearly empty: 6 tiles at a batch of 4 make 3 + 3.
        calls = -(-len(cut) // (self._settings.batch * self._mesh.size))
        size = -(-len(cut) // calls)
        size += -size % self._mesh.size
        padded = np.concatenate([cut, np.zeros((calls * size - len(cut), *cut.shape[1:]), cut.dtype)])
        outputs = [
            np.asarray(self._forward(variables, sharding.scatter(chunk, self._mesh)))
            for chunk in padded.reshape(calls, size, *cut.shape[1:])
        ]
        of_images = np.concatenate(outputs)[: len(cut)].reshape(len(images), len(tiles), *cut.shape[1:])
        return np.stack([tiles.merge(of_image) for of_image in of_images])


def chosen_output(method: Method, config: ConfigDict, variables: Variables, image: jax.Array) -> jax.Array:
    """The prediction `config.predict.prediction_head` for uint8 b y x, b y x; InputError if there is none."""
    outputs = method.predict(variables, augment.to_float(image))
    if config.predict.prediction_head not in outputs:
        raise InputError(
            f"config.predict.prediction_head is {config.predict.prediction_head!r}; "
            f"this method has {', '.join(outputs)}."
        )
    return outputs[config.predict.prediction_head]
