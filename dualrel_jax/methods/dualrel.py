"""DualRel (CVPR 2023): reliable pixels make prototypes, reliable prototypes carry consistency between two views.

From top to bottom: the networks, the training loss, the predictions. Module 1 of the paper (reliable pixel aggregation,
Eq. 5) is `models/prototypes.py`, module 2 (reliable prototype selection) `models/reliability.py`. The paper's
supplement gives Eq. 5 and the roles of the parts; the other formulas are ours (docs/method.md).
"""

import functools
from collections.abc import Callable
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
RAMPED = ("prototype_consistency", "pixel_consistency", "cross_pseudo_label")  # what is learned without labels


class DualRelNetwork(nn.Module):
    """U-Net with a prototype bank on one level of its decoder, and the reliability of each prototype."""

    unet: UNet
    bank: PrototypeBank
    reliability: ReliabilityHead
    feature_level: int

    def __call__(self, image: jax.Array, train: bool = False) -> tuple[jax.Array, PrototypeOutput, jax.Array]:
        """b y x 1 -> logits b y x 2, prototypes of each image, log-variance b k of each from this view alone."""
        output = self.unet(image, train)
        prototype = self.bank(output.features[self.feature_level])
        return output.logits, prototype, self.reliability(prototype.prototypes, prototype.prototypes)

    def log_variance(self, view: jax.Array, other: jax.Array) -> jax.Array:
        """z of prototypes seen in two views: (b k c, b k c) -> b k; large where a prototype is not reliable."""
        return self.reliability(view, other)


class StudentOutput(NamedTuple):
    """The student's output for some images."""

    logits: jax.Array  # b y x 2, of the head
    fused: jax.Array  # b y x 2, of the fused prototypes
    prototype: PrototypeOutput


class TeacherPredictions(NamedTuple):
    """Class probabilities by the teacher's head and by its fused prototypes; no gradient."""

    head: jax.Array  # b y x 2
    fused: jax.Array  # b y x 2


class DualRel(Method):
    """The formulation of docs/method.md; `configs/dualrel.py` and `configs/dualrel_paper.py` weigh its terms."""

    prediction_head_elsewhere = "prototypes"  # made of the very image they segment

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        method = config.method
        self.main_head = method.prediction_head
        self.strong_views = 2 if method.cross_pseudo_label_weight > 0 else 1  # the second is for CutMix
        bank = PrototypeBank(
            method.num_prototypes, method.num_references, method.dim, method.rectification, method.temperature
        )
        self.networks = {"student": DualRelNetwork(unet(config.model), bank, ReliabilityHead(), method.feature_level)}
        weights = {"supervised": 1.0, "reliability": 0.0 if method.reliability == "uniform" else RELIABILITY_WEIGHT}
        weights |= {name: method[f"{name}_weight"] for name in ("prototype", "diversity", *RAMPED)}
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        if not {"prototype", "cross_pseudo_label"} & set(self.weights):  # nothing teaches the prototypes to segment
            self.prediction_head_elsewhere = "default"

    def loss(self, variables, teacher, batch, rng, step):
        # The student: labelled crops, unlabelled crops zoomed, and unlabelled crops pasted into each other.
        mix = functools.partial(cutmix.paste_next, cutmix.three_boxes(rng, *batch.weak.shape[:2]))
        zoom = self.zoom(rng, len(batch.weak))
        pasted = [mix(view) for view in batch.strong[1:]]  # one view, or none without cross pseudo-labels
        images, split = batching.join(batch.image, zoom(batch.strong[0]), *pasted)
        (logits, prototype, _), variables = self.apply_train("student", variables, images)
        fused = upsample(prototypes.fuse(prototype.maps), images.shape[:3])
        labelled, strong, *pasted = split(StudentOutput(logits, fused, prototype))

        # The teacher: the unlabelled crops as they are; its output is zoomed as the student's view is.
        weak_logits, weak, _ = self.apply_teacher("student", teacher, batch.weak)
        predicted = TeacherPredictions(losses.softmax(weak_logits), fused_probability(weak, weak_logits.shape[:3]))
        zoomed = TeacherPredictions(*map(zoom, predicted))
        weak = weak._replace(maps=jnp.moveaxis(zoom(jnp.moveaxis(weak.maps, 1, -1)), -1, 1))

        # Module 2: how far each prototype's two views differ, d, and how reliable it is, z.
        views = strong.prototype.prototypes, weak.prototypes
        z = self.networks["student"].apply(variables["student"], *views, method="log_variance")
        d = reliability.discrepancy(strong.prototype, weak)
        target = self.reliability_target(d, strong.prototype.maps, zoomed.head)

        terms = {
            "supervised": lambda: losses.supervised(labelled.logits, batch.label),
            "prototype": lambda: losses.supervised(labelled.fused, batch.label),
            "diversity": lambda: prototypes.diversity(prototype.maps).mean(),
            "prototype_consistency": lambda: reliability.consistency_loss(d, self.prototype_weights(z)).mean(),
            "reliability": lambda: reliability.reliability_loss(target, z).mean(),
            "pixel_consistency": lambda: losses.masked_mean(
                losses.squared_error(losses.softmax(strong.logits), zoomed.head)
            ),
            "cross_pseudo_label": lambda: cross_pseudo_label_loss(pasted[0], TeacherPredictions(*map(mix, predicted))),
        }
        terms = compute({name: term for name, term in terms.items() if name in self.weights})
        ramp = sigmoid_ramp(step, self.ramp_steps)
        weights = {name: weight * ramp if name in RAMPED else weight for name, weight in self.weights.items()}
        total = sum(weights[name] * term for name, term in terms.items())
        diagnostics = diagnose(
            total,
            terms,
            weights.get("pixel_consistency", weights.get("prototype_consistency", 0.0)) * jnp.ones(()),
            discrepancy=d.mean(),
            reliability_target=target.mean(),
            log_variance_sd=z.std(axis=-1).mean(),
            agreement=jnp.mean(predicted.head.argmax(axis=-1) == predicted.fused.argmax(axis=-1)),
        )
        return total, (diagnostics, variables)

    def labelled_loss(self, variables, batch):
        (logits, prototype, z), variables = self.apply_train("student", variables, batch.image)
        is_class = jax.nn.one_hot(batch.label, 2)  # of neither where it is to be ignored
        terms = {
            "supervised": lambda: losses.supervised(logits, batch.label),
            "prototype": lambda: losses.supervised(
                upsample(prototypes.fuse(prototype.maps), logits.shape[:3]), batch.label
            ),
            "diversity": lambda: prototypes.diversity(prototype.maps).mean(),
            "reliability": lambda: reliability.reliability_loss(
                reliability.confusion(prototype.maps, is_class), z, known=is_class.any(axis=(1, 2, 3)).astype(z.dtype)
            ).mean(),
        }
        terms = compute({name: term for name, term in terms.items() if name in self.weights})
        total = sum(self.weights[name] * term for name, term in terms.items())
        return total, (diagnose(total, terms, jnp.zeros(())), variables)

    def zoom(self, rng: jax.Array, count: int) -> Callable[[jax.Array], jax.Array]:
        """Zooms the strong view of each of `count` crops against the weak one: b y x c -> b y x c."""
        if tuple(self.config.strong_scale) == (1.0, 1.0):
            return lambda view: view
        return functools.partial(augment.zoom_each, self.zooms(rng, count))

    def zooms(self, rng: jax.Array, count: int) -> jax.Array:
        """How far the strong view of each of `count` crops is zoomed against the weak one."""
        keys = jax.random.split(jax.random.fold_in(rng, 2), count)  # `rng` itself draws the boxes of CutMix
        return jax.vmap(functools.partial(augment.draw_zoom, scale=self.config.strong_scale))(keys)

    def reliability_target(self, d: jax.Array, maps: jax.Array, head: jax.Array) -> jax.Array:
        """What the reliability learns from, b k: the discrepancy d, or confusion with the teacher's head b Y X 2."""
        if self.config.reliability == "consistency":
            return d
        return reliability.confusion(maps, head)

    def prototype_weights(self, z: jax.Array) -> jax.Array:
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
            "reliability": self.prototype_weights(z),
            "usage": prototype.usage,
            "references": prototype.references,
            "direct": prototype.direct,
            "rectified": prototype.rectified,
        }


def cross_pseudo_label_loss(student: StudentOutput, teacher: TeacherPredictions) -> jax.Array:
    """Cross-entropy of the student's head with the label of the teacher's prototypes, and the other way round.

    The two learn from each other as the two networks of CPS do; here they share all but their last layers.
    """
    error = losses.cross_entropy(student.logits, teacher.fused.argmax(axis=-1))
    return losses.masked_mean(error + losses.cross_entropy(student.fused, teacher.head.argmax(axis=-1)))


def fused_probability(output: PrototypeOutput, shape: tuple[int, ...]) -> jax.Array:
    """Segmentation by prototypes: b Y X 2 for a shape b Y X."""
    return losses.softmax(upsample(prototypes.fuse(output.maps), shape))


def upsample(logits: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Bilinear, b y x c -> b Y X c for a shape b Y X."""
    return jax.image.resize(logits, (*shape, logits.shape[-1]), "linear")
