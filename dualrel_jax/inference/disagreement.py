"""Disagreement between a model's predictions, per pixel, in the place of its probability."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dualrel_jax import config as config_lib
from dualrel_jax.data.pipeline import augment
from dualrel_jax.inference.run import Run
from dualrel_jax.inference.slice_predictor import Predictor
from dualrel_jax.methods.base import Method
from dualrel_jax.utils import sharding

STRONG_VIEWS = 2  # beside the slice without augmentation


class DisagreementMethod:
    """A method whose prediction is the disagreement between the predictions of another, `b y x` in bits.

    The predictions are those of every output of `method` (head and prototypes, or both networks) for the slice itself
    and for strongly augmented views of it. Their disagreement is the entropy of their mean minus the mean of their
    entropies (BALD, Houlsby et al. 2011): zero at a border that all predict equally unclear, high at one that they
    predict at different places.

    Args:
        settings: `config.augment`.
    """

    def __init__(self, method: Method, settings: ConfigDict):
        self._method, self._settings = method, settings

    def predict(self, variables, image: jax.Array) -> dict[str, jax.Array]:
        grey = image[..., 0] * 0.25 + 0.5

        def strong_view(i):  # the same for every image: else it would depend on which others are predicted beside it
            views = jax.vmap(lambda x: augment.photometric(jax.random.key(i), x, self._settings, 1.0))(grey)
            return augment.normalise(views)[..., None]

        views = [image, *map(strong_view, range(STRONG_VIEWS))]
        probabilities = [
            probability
            for view in views
            for name, probability in self._method.predict(variables, view).items()
            if name not in ("default", "mean")
        ]
        return {"default": disagreement(jnp.stack(probabilities))}


def disagreement_predictor(run: Run) -> Predictor:
    """Predicts the disagreement between the predictions of the model of `run`."""
    config = config_lib.changed(run.config, {"predict.prediction_head": "default"})
    method = DisagreementMethod(run.method, config.augment)
    return Predictor(method, config, sharding.available_mesh(config.train.devices))


def disagreement(probabilities: jax.Array) -> jax.Array:
    """Mutual information of class and prediction, bits: predictions `n ...` -> `...` in [0, 1]."""
    return binary_entropy(probabilities.mean(axis=0)) - binary_entropy(probabilities).mean(axis=0)


def binary_entropy(p: jax.Array) -> jax.Array:
    """Entropy of a probability, bits."""
    p = jnp.clip(p, 1e-6, 1 - 1e-6)
    return -(p * jnp.log2(p) + (1 - p) * jnp.log2(1 - p))
