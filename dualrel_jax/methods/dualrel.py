"""DualRel: reliable prototypes that must stay the same between two views of an image."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dualrel_jax import losses
from dualrel_jax.methods.base import Method, unet
from dualrel_jax.models import prototypes, reliability
from dualrel_jax.models.prototypes import PrototypeBank, PrototypeOutput
from dualrel_jax.models.reliability import ReliabilityHead
from dualrel_jax.models.unet import UNet
from dualrel_jax.schedules import sigmoid_ramp


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

    def unreliability(self, view: jax.Array, other: jax.Array) -> jax.Array:
        """z of prototypes seen in two views: (b k c, b k c) -> b k."""
        return self.reliability(view, other)


class DualRel(Method):
    """The starting formulation of docs/method.md, each part behind a field of `config.method`."""

    strong_views = 1

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        method = config.method
        self.ramp_steps = method.ramp_share * config.train.steps
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

        terms = {
            "supervised": losses.supervised(logits[:b], batch.label),
            "prototype": losses.supervised(upsample(prototypes.fuse(labelled.maps), batch.label.shape), batch.label),
            "diversity": prototypes.diversity(prototype.maps).mean(),
            "consistency": reliability.reliability_loss(d, z, self.config.reliability).mean(),
        }
        terms["pixel"], agreement = self.pixel_loss(logits[b:], weak_logits, weak, z)
        ramp = sigmoid_ramp(step, self.ramp_steps)
        weights = {name: self.config[f"{name}_weight"] for name in ("prototype", "diversity", "consistency", "pixel")}
        ramps = {"consistency": ramp, "pixel": ramp}
        total = terms["supervised"] + sum(weights[name] * ramps.get(name, 1.0) * terms[name] for name in weights)
        diagnostics = {
            "loss": total,
            **{f"loss_{name}": value for name, value in terms.items()},
            "consistency_ramp": ramp,
            "agreement": agreement,
            "discrepancy": d.mean(),
            "unreliability_sd": z.std(axis=-1).mean(),
        }
        return total, (diagnostics, variables)

    def pixel_loss(self, logits, weak_logits, weak, z) -> tuple[jax.Array, jax.Array]:
        """The teacher's head and its reliable prototypes give two opinions; -> (scalar, share of pixels used).

        hard: cross-entropy with the label both agree on, where both are sure of it. soft: squared error to their mean
        probability, weighted by how far the two agree.
        """
        head = jax.nn.softmax(weak_logits)
        log_weights = jax.lax.stop_gradient(jnp.log(self.weights(z)))
        fused = jax.nn.softmax(upsample(prototypes.fuse(weak.maps, log_weights), weak_logits.shape[:3]))
        if self.config.pixel_target == "soft":
            agreement = 1 - jnp.abs(head - fused)[..., 1]
            error = losses.squared_error(jax.nn.softmax(logits), (head + fused) / 2)
            return losses.masked_mean(error, agreement), agreement.mean()
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
        fused = jax.nn.softmax(upsample(prototypes.fuse(prototype.maps, jnp.log(self.weights(z))), logits.shape[:3]))[
            ..., 1
        ]
        predictions = {"head": head, "prototypes": fused, "mean": (head + fused) / 2}
        return {"default": predictions[self.config.predict_from], **predictions}

    def activations(self, variables, image) -> dict[str, jax.Array]:
        """For pictures: maps b k y x, reliability b k (mean 1), usage b y x, references b n of images b y x 1."""
        _, prototype, z = self.networks["student"].apply(variables["student"], image)
        return {
            "maps": prototype.maps,
            "reliability": self.weights(z),
            "usage": prototype.usage,
            "references": prototype.references,
        }


def split(output: PrototypeOutput, b: int) -> tuple[PrototypeOutput, PrototypeOutput]:
    """The first b images of the output, and the rest."""
    return PrototypeOutput(*(t[:b] for t in output)), PrototypeOutput(*(t[b:] for t in output))


def upsample(logits: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Bilinear, b y x c -> b Y X c for a shape b Y X."""
    return jax.image.resize(logits, (*shape, logits.shape[-1]), "linear")
