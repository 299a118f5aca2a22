"""CPS (Chen et al., CVPR 2021): two networks learn from each other's hard pseudo-labels, with or without CutMix."""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dualrel_jax.methods import batching, cutmix, losses
from dualrel_jax.methods.base import Method, compute, diagnose, unet
from dualrel_jax.methods.ramps import sigmoid_ramp


class CPS(Method):
    """Both networks see the same strong view; every pixel counts, however low its confidence.

    The networks supervise each other on labelled and unlabelled crops.
    """

    cutmix = False
    strong_views = 1
    segmenters = ("left", "right")

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        self.networks = {"left": unet(config.model), "right": unet(config.model)}

    def loss(self, variables, teacher, batch, rng, step):
        unlabelled = batch.strong[0]
        if self.cutmix:
            mask = cutmix.three_boxes(rng, *unlabelled.shape[:2])
            mix = functools.partial(cutmix.paste_next, mask)
        else:
            mix = lambda x: x  # noqa: E731

        images, split = batching.join(batch.image, mix(unlabelled))
        labelled, crossed, labels = {}, {}, {}
        for name in self.segmenters:
            if self.cutmix:
                clean, _ = self.apply_train(name, jax.lax.stop_gradient(variables), unlabelled)
                labels[name] = mix(clean.logits).argmax(axis=-1)
            output, variables = self.apply_train(name, variables, images)
            labelled[name], mixed = split(output.logits)
            crossed[name] = mixed if self.cutmix else output.logits
            labels.setdefault(name, output.logits.argmax(axis=-1))

        terms = {
            "supervised": lambda: sum(losses.supervised(logits, batch.label) for logits in labelled.values()),
            "cross": lambda: sum(
                losses.masked_mean(losses.cross_entropy(crossed[name], labels[other]))
                for name, other in (("left", "right"), ("right", "left"))
            ),
        }
        terms = compute(terms)
        weight = self.config.consistency_weight * sigmoid_ramp(step, self.ramp_steps)
        total = terms["supervised"] + weight * terms["cross"]
        agreement = jnp.mean(labels["left"] == labels["right"])
        return total, (diagnose(total, terms, weight, agreement=agreement), variables)


class CPSWithCutMix(CPS):
    """Cross supervision on mixed unlabelled crops alone, whose labels are those of the clean crops, mixed alike."""

    cutmix = True
