"""The protocol of a method: networks, a loss, and predictions. The training loop uses nothing else of it.

A method may have any number of networks. All of them are trained by the gradient of one scalar: a network that must
not learn from a term is held back there by `stop_gradient`, so that each network's gradient is its own even where they
are trained in turn elsewhere (GCT: the flaw detector sees detached predictions, the segmenters a frozen detector).
Each network may have an optimiser of its own, and each has a teacher, its exponential moving average.
"""

import abc
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dualrel_jax.data.pipeline.augment import Batch
from dualrel_jax.methods import losses
from dualrel_jax.models.unet import UNet

Variables = Mapping[str, Mapping[str, Any]]  # network -> its Flax collections ("params", and "batch_stats" if any)
Diagnostics = Mapping[str, jax.Array]


class Method(abc.ABC):
    """Base class of methods; a subclass sets `networks` and writes `loss` and `predict`."""

    main_head = "head"  # name of the default prediction
    prediction_head_elsewhere = "default"  # name of the prediction for volumes unlike those of the training
    strong_views = 0  # strong views of the unlabelled crops that the loss reads; 0: it reads none of them
    segmenters: tuple[str, ...] = ("student",)  # networks whose logits learn from labels; the first predicts `head`

    def __init__(self, config: ConfigDict):
        self.config = config.method
        self.ramp_steps = config.train.ramp_fraction * config.train.steps  # of the unlabelled terms' weights
        self.networks: dict[str, nn.Module] = {"student": unet(config.model)}

    def init(self, rng: jax.Array, image: jax.Array) -> Variables:
        """Initial variables of every network for images b y x 1; one random stream per network, by name."""
        names = sorted(self.networks)
        keys = dict(zip(names, jax.random.split(rng, len(names)), strict=True))
        return {
            name: network.init(keys[name], *self.example_inputs(name, image)) for name, network in self.networks.items()
        }

    def example_inputs(self, network: str, image: jax.Array) -> tuple:
        """Arguments that `network` is initialised with; images unless it takes something else."""
        return (image,)

    def optimizers(self, train: ConfigDict) -> dict[str, optax.GradientTransformation]:
        """Optimisers of the networks that are not trained by the one of the config, by network."""
        return {}

    @abc.abstractmethod
    def loss(
        self, variables: Variables, teacher: Variables, batch: Batch, rng: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[Diagnostics, Variables]]:
        """-> (scalar, (scalars to log, variables with updated batch statistics)). No gradient reaches `teacher`."""

    def labelled_loss(self, variables: Variables, batch: Batch) -> tuple[jax.Array, tuple[Diagnostics, Variables]]:
        """What the method learns from labelled crops alone, returned as by `loss`: all that a second stage learns."""
        total = 0.0
        for name in self.segmenters:
            output, variables = self.apply_train(name, variables, batch.image)
            with jax.named_scope("loss_supervised"):
                total += losses.supervised(output.logits, batch.label)
        return total, ({"loss": total}, variables)

    def predict(self, variables: Variables, image: jax.Array) -> dict[str, jax.Array]:
        """Probabilities of mitochondrion, b y x each, for images b y x 1.

        `head` is that of the U-Net `segmenters[0]` alone, `default` the method's choice; of two U-Nets `right` is that
        of the second, `mean` the mean of both.
        """
        first, *others = (self.probability(name, variables, image) for name in self.segmenters)
        predictions = {"default": first, "head": first}
        for second in others:
            predictions |= {"right": second, "mean": (first + second) / 2}
        return predictions

    def probability(self, network: str, variables: Variables, image: jax.Array) -> jax.Array:
        """Probability of mitochondrion, b y x, by one U-Net for images b y x 1."""
        return jax.nn.softmax(self.networks[network].apply(variables[network], image).logits)[..., 1]

    def apply_train(
        self, network: str, variables: Variables, *inputs: jax.Array, method: str = "__call__"
    ) -> tuple[Any, Variables]:
        """One training pass of a network: its output, and all variables with its new batch statistics."""
        with jax.named_scope(network):
            output, updates = self.networks[network].apply(
                variables[network], *inputs, train=True, method=method, mutable=["batch_stats"]
            )
        return output, {**variables, network: {**variables[network], **updates}}

    def apply_teacher(self, network: str, teacher: Variables, *inputs: jax.Array) -> Any:
        """Output of a network's teacher, without a gradient."""
        with jax.named_scope(f"{network}_teacher"):
            return jax.lax.stop_gradient(self.networks[network].apply(teacher[network], *inputs))


class LabelledOnly(Method):
    """The networks and predictions of `method`, trained by its loss of labelled crops alone."""

    def __init__(self, method: Method):
        self.method = method
        self.networks, self.segmenters = method.networks, method.segmenters
        self.init, self.optimizers, self.predict = method.init, method.optimizers, method.predict

    def loss(self, variables, teacher, batch, rng, step):
        return self.method.labelled_loss(variables, batch)


def compute(terms: Mapping[str, Callable[[], jax.Array]]) -> dict[str, jax.Array]:
    """The value of each term of a loss, under the scope `loss_<name>`, by which profiles know it."""
    values = {}
    for name, term in terms.items():
        with jax.named_scope(f"loss_{name}"):
            values[name] = term()
    return values


def diagnose(
    total: jax.Array, terms: Mapping[str, jax.Array], consistency_weight: jax.Array, **others: jax.Array
) -> Diagnostics:
    """The scalars a step logs: the loss, its terms, the weight of the unlabelled terms, and those of one method."""
    of_terms = {f"loss_{name}": value for name, value in terms.items()}
    return {"loss": total, **of_terms, "consistency_weight": consistency_weight, **others}


def unet(model: ConfigDict) -> UNet:
    """The segmentation network of the config, the same for every method."""
    return UNet(model.width, model.depth, model.norm, jnp.dtype(model.dtype), model.stem)
