"""UniMatch (Yang et al., CVPR 2023): confident pseudo-labels for two strong views and for dropped channels."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dualrel_jax.methods import batching, cutmix, losses
from dualrel_jax.methods.base import Method, compute, diagnose, unet
from dualrel_jax.methods.ramps import sigmoid_ramp
from dualrel_jax.models.unet import UNet, UNetOutput


class UniMatchNetwork(nn.Module):
    """U-Net that also decodes features with whole channels dropped."""

    unet: UNet
    channel_dropout: float

    def __call__(self, image: jax.Array, train: bool = False) -> UNetOutput:
        return self.unet(image, train)

    def with_dropped_channels(self, views: list[jax.Array], rng: jax.Array, train: bool = False) -> list[UNetOutput]:
        """Output of each of the views b y x 1, then of the last once more, with dropped channels.

        Every level the decoder reads loses channels, drawn anew for each image and level; the others are scaled up.
        """
        images, split = batching.join(*views)
        levels = self.unet.encoder(images.astype(self.unet.dtype), train)
        both = []
        for level, key in zip(levels, jax.random.split(rng, len(levels)), strict=True):
            parts = split(level)
            kept = jax.random.bernoulli(key, 1 - self.channel_dropout, (len(parts[-1]), 1, 1, level.shape[-1]))
            level, split_all = batching.join(*parts, parts[-1] * kept / (1 - self.channel_dropout))
            both.append(level)
        return split_all(self.unet.decoder(both, train))


class UniMatch(Method):
    """1/2 [L_x + w (1/4 L_s1 + 1/4 L_s2 + 1/2 L_fp)], w the ramped consistency weight.

    The unlabelled terms are soft Dice on confident pixels.
    """

    strong_views = 2

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        self.networks = {"student": UniMatchNetwork(unet(config.model), config.method.channel_dropout)}

    def loss(self, variables, teacher, batch, rng, step):
        u, side = batch.weak.shape[:2]
        first_key, second_key, drop_key = jax.random.split(rng, 3)
        masks = [self.cutmix_masks(key, u, side) for key in (first_key, second_key)]
        strong = [cutmix.paste_next(mask, view) for mask, view in zip(masks, batch.strong, strict=True)]
        # The weak view comes last: its features lose channels.
        views = [batch.image, *strong, batch.weak]
        outputs, variables = self.apply_train("student", variables, views, drop_key, method="with_dropped_channels")
        labelled, *strong, weak, dropped = outputs
        target = jax.lax.stop_gradient(losses.softmax(weak.logits))

        pairs = [(cutmix.paste_next(mask, target), view.logits) for mask, view in zip(masks, strong, strict=True)]
        further = self.further_terms(jax.random.fold_in(rng, 3), masks, strong, weak)  # none of the keys above
        terms = {
            "supervised": lambda: losses.supervised(labelled.logits, batch.label),
            "strong": lambda: sum(self.pseudo_dice(logits, pasted) for pasted, logits in pairs) / 2,
            "feature": lambda: self.pseudo_dice(dropped.logits, target),
            **{name: term for name, (_, term) in further.items()},
        }
        terms = compute(terms)
        weight = self.config.consistency_weight * sigmoid_ramp(step, self.ramp_steps)
        unlabelled = (terms["strong"] + terms["feature"]) / 2
        unlabelled += sum(factor * terms[name] for name, (factor, _) in further.items())
        total = (terms["supervised"] + weight * unlabelled) / 2
        diagnostics = diagnose(
            total,
            terms,
            weight,
            confident=jnp.mean(target.max(axis=-1) >= self.config.confidence),
        )
        return total, (diagnostics, variables)

    def further_terms(
        self, key: jax.Array, masks: list[jax.Array], strong: list[UNetOutput], weak: UNetOutput
    ) -> dict[str, tuple[float, Callable[[], jax.Array]]]:
        """Unlabelled terms of a method that builds on this one: name -> (weight relative to L_x, term).

        `masks`: where another crop was pasted into each of the strong views, count y x bool each.
        """
        return {}

    def cutmix_masks(self, key: jax.Array, count: int, side: int) -> jax.Array:
        """One box a crop, or none: count y x bool."""
        box_key, chance_key = jax.random.split(key)
        mask = cutmix.boxes(box_key, count, side, tuple(self.config.cutmix_area), tuple(self.config.cutmix_aspect))
        return mask & jax.random.bernoulli(chance_key, self.config.cutmix_probability, (count, 1, 1))

    def pseudo_dice(self, logits: jax.Array, target: jax.Array) -> jax.Array:
        """Soft Dice of both classes with the label of the target probability b y x 2, on its confident pixels alone."""
        confident = target.max(axis=-1) >= self.config.confidence
        label = jnp.where(confident, target.argmax(axis=-1), losses.IGNORE)
        return (losses.soft_dice(logits, label, of=0) + losses.soft_dice(logits, label, of=1)) / 2
