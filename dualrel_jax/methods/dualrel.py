"""DualRel: reliable prototypes that must stay the same between two views of an image."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dualrel_jax.data.pipeline import augment
from dualrel_jax.methods import batching, cutmix, losses
from dualrel_jax.methods.base import Method, compute, diagnose, unet
from dualrel_jax.methods.ramps import sigmoid_ramp
from dualrel_jax.models import prototypes, reliability
from dualrel_jax.models.prototypes import PrototypeBank, PrototypeOutput
from dualrel_jax.models.reliability import ReliabilityHead
from dualrel_jax.models.unet import UNet

RELIABILITY_WEIGHT = 0.1  # alone in its layers' gradient, whose scale optimisers remove: it matters to the clip only


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


class Student(NamedTuple):
    """What the student makes of some images."""

    logits: jax.Array  # b y x 2, of the head
    fused: jax.Array  # b y x 2, logits of the prototypes
    prototype: PrototypeOutput


class Opinions(NamedTuple):
    """Two opinions of the teacher about each pixel; no gradient."""

    head: jax.Array  # b y x 2
    fused: jax.Array  # b y x 2


class DualRel(Method):
    """The formulation of docs/method.md, each part behind a field of `config.method`."""

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        method = config.method
        self.main_head = method.prediction_head
        self.prediction_head_elsewhere = method.prediction_head_elsewhere
        self.strong_views = 2 if method.cross_pseudo_label_weight > 0 else 1  # the second is for CutMix
        bank = PrototypeBank(
            method.num_prototypes, method.num_references, method.dim, method.rectification, method.temperature
        )
        self.networks = {"student": DualRelNetwork(unet(config.model), bank, ReliabilityHead(), method.feature_level)}

    def loss(self, variables, teacher, batch, rng, step):
        mix = functools.partial(cutmix.paste_next, cutmix.three_boxes(rng, *batch.weak.shape[:2]))
        pasted = [mix(view) for view in batch.strong[1:]]  # one, or none without cross labels
        zoom = functools.partial(augment.zoom_each, self.zooms(rng, len(batch.weak)))
        images, part = batching.join(batch.image, zoom(batch.strong[0]), *pasted)
        (logits, prototype, _), variables = self.apply_train("student", variables, images)
        fused = upsample(prototypes.fuse(prototype.maps), images.shape[:3])
        labelled, strong, *pasted = part(Student(logits, fused, prototype))

        weak_logits, weak, _ = self.apply_teacher("student", teacher, batch.weak)
        opinions = Opinions(jax.nn.softmax(weak_logits), fused_probability(weak, weak_logits.shape[:3]))
        zoomed = Opinions(*map(zoom, opinions))  # as the strong view shows them; so the maps
        weak = weak._replace(maps=jnp.moveaxis(zoom(jnp.moveaxis(weak.maps, 1, -1)), -1, 1))

        network = self.networks["student"]
        views = strong.prototype.prototypes, weak.prototypes
        z = network.apply(variables["student"], *views, method="unreliability")
        d = reliability.discrepancy(strong.prototype, weak, self.config.consistency)
        doubt = self.doubt(d, strong.prototype.maps, zoomed.head)

        terms = {
            "supervised": lambda: losses.supervised(labelled.logits, batch.label),
            "prototype": lambda: losses.supervised(labelled.fused, batch.label),
            "diversity": lambda: prototypes.diversity(prototype.maps).mean(),
            "consistency": lambda: reliability.consistency_loss(d, self.weights(z)).mean(),
            "reliability": lambda: reliability.reliability_loss(doubt, z, self.config.reliability).mean(),
            "soft": lambda: self.soft_loss(strong.logits, zoomed, weak, z),
        }
        if pasted:
            terms["cross"] = lambda: self.cross_loss(pasted[0].logits, pasted[0].fused, Opinions(*map(mix, opinions)))
        terms = compute(terms)
        ramp = sigmoid_ramp(step, self.ramp_steps)
        weights = {
            "supervised": 1.0,
            "prototype": self.config.prototype_weight,
            "diversity": self.config.diversity_weight,
            "consistency": self.config.prototype_consistency_weight * ramp,
            "reliability": RELIABILITY_WEIGHT,
            "soft": self.config.pixel_consistency_weight * ramp,
            "cross": self.config.cross_pseudo_label_weight * ramp,
        }
        total = sum(weights[name] * term for name, term in terms.items())
        diagnostics = diagnose(
            total,
            terms,
            self.config.pixel_consistency_weight * ramp,
            discrepancy=d.mean(),
            doubt=doubt.mean(),
            unreliability_sd=z.std(axis=-1).mean(),
            agreement=jnp.mean(opinions.head.argmax(axis=-1) == opinions.fused.argmax(axis=-1)),
        )
        return total, (diagnostics, variables)

    def zooms(self, rng: jax.Array, count: int) -> jax.Array:
        """How far the strong view of each of `count` crops is zoomed against the weak one."""
        keys = jax.random.split(jax.random.fold_in(rng, 2), count)  # `rng` itself draws the boxes of CutMix
        return jax.vmap(functools.partial(augment.draw_zoom, scale=self.config.strong_scale))(keys)

    def doubt(self, d: jax.Array, maps: jax.Array, head: jax.Array) -> jax.Array:
        """What the reliability learns from, b k: confusion by the teacher's head b Y X 2, or the discrepancy d."""
        if self.config.reliability_from == "consistency":
            return d
        mitochondrion = jax.image.resize(head[..., 1], (len(maps), *maps.shape[2:]), "linear")
        return reliability.confusion(maps, mitochondrion)

    def soft_loss(self, logits: jax.Array, opinions: Opinions, weak: PrototypeOutput, z: jax.Array) -> jax.Array:
        """Squared error to the teacher's probability; a pixel may weigh what the prototypes that own it are trusted."""
        target = opinions.head if self.config.soft_target == "head" else (opinions.head + opinions.fused) / 2
        error = losses.squared_error(jax.nn.softmax(logits), target)
        if self.config.soft_trust == "uniform":
            return losses.masked_mean(error)
        weights = jax.lax.stop_gradient(self.weights(z))
        trust = jnp.einsum("bkyx,bk->byx", jax.nn.softmax(weak.maps, axis=1), weights)
        return losses.masked_mean(error, upsample(trust[..., None], logits.shape[:3])[..., 0])

    def cross_loss(self, logits: jax.Array, fused: jax.Array, opinions: Opinions) -> jax.Array:
        """Cross-entropy of each opinion of the student with the label of the teacher's other one, on every pixel.

        The two learn from each other as the two networks of CPS do; here they share all but their last layers.
        """
        own = self.config.cross_labels == "own"
        of_head, of_fused = (opinions.head, opinions.fused) if own else (opinions.fused, opinions.head)
        error = losses.cross_entropy(logits, of_head.argmax(axis=-1))
        return losses.masked_mean(error + losses.cross_entropy(fused, of_fused.argmax(axis=-1)))

    def weights(self, z: jax.Array) -> jax.Array:
        """Reliability weight of each prototype, b k with mean 1; all 1 in the uniform ablation."""
        return jnp.ones_like(z) if self.config.reliability == "uniform" else reliability.reliability_weights(z)

    def predict(self, variables, image):
        logits, prototype, _ = self.networks["student"].apply(variables["student"], image)
        head = jax.nn.softmax(logits)[..., 1]
        fused = fused_probability(prototype, logits.shape[:3])[..., 1]
        predictions = {"head": head, "prototypes": fused, "mean": (head + fused) / 2}
        return {"default": predictions[self.config.prediction_head], **predictions}

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


def fused_probability(output: PrototypeOutput, shape: tuple[int, ...]) -> jax.Array:
    """Segmentation by prototypes: b Y X 2 for a shape b Y X."""
    return jax.nn.softmax(upsample(prototypes.fuse(output.maps), shape))


def upsample(logits: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Bilinear, b y x c -> b Y X c for a shape b Y X."""
    return jax.image.resize(logits, (*shape, logits.shape[-1]), "linear")
