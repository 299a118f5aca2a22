"""GCT: two networks and a detector of their flaws; each network learns from the one with fewer flaws."""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from dualrel_jax.methods import batching, losses
from dualrel_jax.methods.base import Method, diagnose, unet
from dualrel_jax.methods.ramps import sigmoid_ramp
from dualrel_jax.models import gct_detector, gct_flaws


class GCT(Method):
    """Ke et al., ECCV 2020: supervised, flaw correction and dynamic consistency losses; a detector with its own."""

    strong_views = 1
    segmenters = ("left", "right")

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        width = config.method.detector_width or min(2 * config.model.width, 64)
        strides = gct_detector.num_strides(config.train.crop_px // config.model.stem, config.method.detector_cells)
        self.networks = {
            "left": unet(config.model),
            "right": unet(config.model),
            "detector": gct_detector.FlawDetector(width, strides, jnp.dtype(config.model.dtype), config.model.stem),
        }

    def example_inputs(self, network, image):
        return (image, jnp.zeros((*image.shape[:3], 2))) if network == "detector" else (image,)

    def optimizers(self, train):
        rate = optax.polynomial_schedule(self.config.detector_rate, 0.0, 0.9, train.steps)
        return {"detector": optax.adam(rate, b1=0.9, b2=0.99)}

    def loss(self, variables, teacher, batch, rng, step):
        images, split = batching.join(batch.image, batch.strong[0])
        valid, _ = batching.join(losses.valid(batch.label), jnp.ones(batch.strong.shape[1:4]))
        frozen = jax.lax.stop_gradient(variables["detector"])

        terms = dict.fromkeys(("supervised", "correction", "consistency", "detector"), 0.0)
        probability, flawed, squared = [], [], []
        for name in self.segmenters:
            output, variables = self.apply_train(name, variables, images)
            with jax.named_scope("loss_supervised"):
                terms["supervised"] += losses.supervised(split(output.logits)[0], batch.label)
            probability.append(losses.softmax(output.logits))
            # The gradient of the detector's loss stops at the prediction, that of the correction at the detector.
            fixed = jax.lax.stop_gradient(probability[-1])
            detected, variables = self.apply_train("detector", variables, images, fixed)
            terms["detector"] += self.detector_loss(*split((detected, probability[-1]))[0], batch.label)
            flawed.append(gct_flaws.handle(detected, self.config.flaw_floor))
            squared.append(jnp.square(self.detect(frozen, images, probability[-1])))

        threshold = self.config.flaw_threshold
        both = (flawed[0] > threshold) & (flawed[1] > threshold)
        for own, other in ((0, 1), (1, 0)):
            with jax.named_scope("loss_consistency"):
                target = gct_flaws.consistency_target(
                    probability[own], probability[other], flawed[own], flawed[other], threshold
                )
                terms["consistency"] += losses.masked_mean(losses.squared_error(probability[own], target), valid)
            with jax.named_scope("loss_correction"):
                terms["correction"] += losses.masked_mean(both * squared[own], valid)

        weights = {name: self.config[f"{name}_weight"] for name in ("correction", "consistency", "detector")}
        weights["consistency"] *= sigmoid_ramp(step, self.ramp_steps)
        total = terms["supervised"] + sum(weights[name] * terms[name] for name in weights)
        diagnostics = diagnose(
            total,
            terms,
            weights["consistency"],
            flawed_in_both=losses.masked_mean(both, valid),
        )
        return total, (diagnostics, variables)

    @jax.named_scope("detector")
    def detect(self, variables, images: jax.Array, probability: jax.Array) -> jax.Array:
        """Flaws of a prediction by the detector in training mode, its batch statistics left as they are."""
        network = self.networks["detector"]
        return network.apply(variables, images, probability, train=True, mutable=["batch_stats"])[0]

    @jax.named_scope("loss_detector")
    def detector_loss(self, detected: jax.Array, probability: jax.Array, label: jax.Array) -> jax.Array:
        """Half the squared error of the detected flaws on labelled crops: summed over both networks their mean."""
        probability = jax.lax.stop_gradient(probability)
        truth = gct_flaws.ground_truth(probability, label, self.config.error_scale, self.config.dilations)
        return losses.masked_mean(jnp.square(detected - truth), losses.valid(label)) / 2
