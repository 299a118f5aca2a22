"""DualRel: reliable prototypes that must stay the same between two views of an image."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dualrel_jax import cutmix, losses
from dualrel_jax.methods.base import Method, unet
from dualrel_jax.models import prototypes, reliability
from dualrel_jax.models.prototypes import PrototypeBank, PrototypeOutput
from dualrel_jax.models.reliability import ReliabilityHead
from dualrel_jax.models.unet import UNet
from dualrel_jax.schedules import sigmoid_ramp

RELIABILITY_WEIGHT = 0.1  # alone in its networks' gradient, which Adam scales: it matters to the clip only


class DualRelNetwork(nn.Module):
    """U-Net with a prototype bank on one level of its decoder, and the reliability of each prototype."""

    unet: UNet
    bank: PrototypeBank
    reliability: ReliabilityHead
    feature_level: int

    def __call__(self, image: jax.Array, train: bool = False) -> tuple[jax.Array, PrototypeOutput, jax.Array]:
        """b y x 1 -> logits b y x 2, prototypes of each image, unreliability z b k of each from this view alone."""
        output = self.unet(image, train)
        prototype = self.bank(output.features[self.feature_level])
        return output.logits, prototype, self.reliability(prototype.prototypes, prototype.prototypes)

    def segment(self, image: jax.Array, train: bool = False) -> jax.Array:
        """Logits of the U-Net alone: b y x 1 -> b y x 2."""
        return self.unet(image, train).logits

    def unreliability(self, view: jax.Array, other: jax.Array) -> jax.Array:
        """z of prototypes seen in two views: (b k c, b k c) -> b k."""
        return self.reliability(view, other)


class Opinions(NamedTuple):
    """Two opinions of the teacher about each pixel, and how far its prototypes are trusted there; no gradient."""

    head: jax.Array  # b y x 2
    fused: jax.Array  # b y x 2
    trust: jax.Array  # b y x, about 1


class DualRel(Method):
    """The starting formulation of docs/method.md, each part behind a field of `config.method`."""

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        method = config.method
        self.strong_views = 2 if method.hard_weight > 0 else 1  # the second is for CutMix
        bank = PrototypeBank(
            method.num_prototypes, method.num_references, method.dim, method.rectification, method.temperature
        )
        self.networks = {"student": DualRelNetwork(unet(config.model), bank, ReliabilityHead(), method.feature_level)}

    def loss(self, variables, teacher, batch, rng, step):
        b = batch.image.shape[0]
        images = jnp.concatenate([batch.image, batch.strong[0]])
        (logits, prototype, _), variables = self.apply_train("student", variables, images)
        labelled, student = split(prototype, b)

        network = self.networks["student"]
        weak_logits, weak, _ = jax.lax.stop_gradient(network.apply(teacher["student"], batch.weak))
        z = network.apply(variables["student"], student.prototypes, weak.prototypes, method="unreliability")
        d = reliability.discrepancy(student, weak, self.config.consistency)
        opinions = self.opinions(weak_logits, weak, z)

        terms = {
            "supervised": losses.supervised(logits[:b], batch.label),
            "prototype": losses.supervised(upsample(prototypes.fuse(labelled.maps), batch.label.shape), batch.label),
            "diversity": prototypes.diversity(prototype.maps).mean(),
            "consistency": reliability.consistency_loss(d, self.weights(z)).mean(),
            "reliability": reliability.reliability_loss(d, z, self.config.reliability).mean(),
            "soft": self.soft_loss(logits[b:], opinions),
        }
        if self.config.hard_weight > 0:
            mask = cutmix.three_boxes(rng, *batch.weak.shape[:2])
            mix = lambda x: cutmix.paste(mask, x, jnp.roll(x, 1, axis=0))  # noqa: E731
            mixed, variables = self.apply_unet(variables, mix(batch.strong[1]))
            terms["hard"], agreement = self.hard_loss(mixed, mix(opinions.head), mix(opinions.fused))
        ramp = sigmoid_ramp(step, self.ramp_steps)
        ramps = {"consistency": ramp, "soft": ramp, "hard": ramp}
        weights = {"supervised": 1.0, "reliability": RELIABILITY_WEIGHT}
        total = sum(
            weights.get(name, self.config.get(f"{name}_weight")) * ramps.get(name, 1.0) * term
            for name, term in terms.items()
        )
        diagnostics = {
            "loss": total,
            **{f"loss_{name}": value for name, value in terms.items()},
            "consistency_weight": self.config.soft_weight * ramp,
            "discrepancy": d.mean(),
            "unreliability_sd": z.std(axis=-1).mean(),
        }
        if "hard" in terms:
            diagnostics["agreement"] = agreement
        return total, (diagnostics, variables)

    def apply_unet(self, variables, image):
        """Training pass of the U-Net alone, no prototypes: logits, variables with new batch statistics."""
        network = self.networks["student"]
        logits, updates = network.apply(
            variables["student"], image, train=True, method="segment", mutable=["batch_stats"]
        )
        return logits, {**variables, "student": {**variables["student"], **updates}}

    def opinions(self, logits: jax.Array, weak: PrototypeOutput, z: jax.Array) -> Opinions:
        """What the teacher thinks of the weak view, by its head and by its reliable prototypes."""
        weights = jax.lax.stop_gradient(self.weights(z))
        fused = fused_probability(weak, weights, logits.shape[:3])
        trust = jnp.einsum("bkyx,bk->byx", jax.nn.softmax(weak.maps, axis=1), weights)
        trust = upsample(trust[..., None], logits.shape[:3])[..., 0]
        return Opinions(jax.nn.softmax(logits), fused, trust)

    def soft_loss(self, logits, opinions: Opinions) -> jax.Array:
        """Squared error to the teacher's probability; a pixel weighs what the prototypes that own it are trusted."""
        target = opinions.head if self.config.soft_target == "head" else (opinions.head + opinions.fused) / 2
        error = losses.squared_error(jax.nn.softmax(logits), target)
        if self.config.soft_trust == "reliability":
            return losses.masked_mean(error, opinions.trust)
        if self.config.soft_trust == "agreement":
            return losses.masked_mean(error, 1 - jnp.abs(opinions.head - opinions.fused)[..., 1])
        return losses.masked_mean(error)

    def hard_loss(self, logits, head, fused) -> tuple[jax.Array, jax.Array]:
        """Cross-entropy with the label both opinions agree on, where both are sure; -> (scalar, share of pixels)."""
        sure = jnp.minimum(head.max(axis=-1), fused.max(axis=-1)) >= self.config.pixel_confidence
        agree = sure & (head.argmax(axis=-1) == fused.argmax(axis=-1))
        error = losses.cross_entropy(logits, head.argmax(axis=-1))
        # Over all pixels, not only the agreed ones: few agreed pixels should weigh little.
        return jnp.mean(error * agree), agree.mean()

    def weights(self, z: jax.Array) -> jax.Array:
        """Reliability weight of each prototype, b k with mean 1; all 1 in the uniform ablation."""
        return jnp.ones_like(z) if self.config.reliability == "uniform" else reliability.reliability_weights(z)

    def predict(self, variables, image):
        logits, prototype, z = self.networks["student"].apply(variables["student"], image)
        head = jax.nn.softmax(logits)[..., 1]
        fused = fused_probability(prototype, self.weights(z), logits.shape[:3])[..., 1]
        predictions = {"head": head, "prototypes": fused, "mean": (head + fused) / 2}
        return {"default": predictions[self.config.predict_from], **predictions}

    def activations(self, variables, image) -> dict[str, jax.Array]:
        """For pictures of images b y x 1, at the size of the features.

        maps, direct (correlation, any value) and rectified (attention, sums to 1 over y x): b k y x; reliability b k
        (mean 1); usage b y x; references b n (flat indices).
        """
        _, prototype, z = self.networks["student"].apply(variables["student"], image)
        return {
            "maps": prototype.maps,
            "reliability": self.weights(z),
            "usage": prototype.usage,
            "references": prototype.references,
            "direct": prototype.direct,
            "rectified": prototype.rectified,
        }


def split(output: PrototypeOutput, b: int) -> tuple[PrototypeOutput, PrototypeOutput]:
    """The first b images of the output, and the rest."""
    return PrototypeOutput(*(t[:b] for t in output)), PrototypeOutput(*(t[b:] for t in output))


def fused_probability(output: PrototypeOutput, weights: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Segmentation by prototypes of these reliabilities b k: b Y X 2 for a shape b Y X."""
    return jax.nn.softmax(upsample(prototypes.fuse(output.maps, jnp.log(weights)), shape))


def upsample(logits: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Bilinear, b y x c -> b Y X c for a shape b Y X."""
    return jax.image.resize(logits, (*shape, logits.shape[-1]), "linear")
