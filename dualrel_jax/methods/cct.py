"""CCT: auxiliary decoders of perturbed features must agree with the main decoder."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from dualrel_jax.methods import batching, losses
from dualrel_jax.methods.base import Method, compute, diagnose, unet
from dualrel_jax.methods.ramps import sigmoid_ramp
from dualrel_jax.models import cct_perturbations as perturbations
from dualrel_jax.models.cct_perturbations import AuxiliaryDecoder
from dualrel_jax.models.unet import UNet, UNetOutput

KINDS = ("noise", "drop", "dropout", "cutout", "context", "object")


class CCTNetwork(nn.Module):
    """A U-Net, and auxiliary decoders on the deepest level of its encoder."""

    unet: UNet
    num_auxiliary: int
    auxiliary_width: int

    def setup(self):
        # All decoders at once, their parameters stacked along a first axis.
        stacked = nn.vmap(AuxiliaryDecoder, variable_axes={"params": 0}, split_rngs={"params": True})
        self.auxiliary = stacked(self.unet.depth - 1, self.auxiliary_width, self.unet.dtype, self.unet.stem)

    def __call__(self, image: jax.Array, train: bool = False) -> UNetOutput:
        """The main branch alone, b y x 1 -> UNetOutput."""
        output = self.unet(image, train)
        if self.is_initializing():
            self.decode(jnp.stack([output.features[-1]] * self.num_auxiliary))
        return output

    def decode(self, features: jax.Array) -> jax.Array:
        """The auxiliary branches, each on its own features: j b y x c -> logits j b Y X 2."""
        return self.auxiliary(features)


class CCT(Method):
    """Ouali et al., CVPR 2020: L_sup + w(t) lambda mean_j (softmax g_j(P_j(z)) - sg softmax g(z))^2."""

    strong_views = 1

    def __init__(self, config: ConfigDict):
        super().__init__(config)
        self.counts = {kind: self.config[f"num_{kind}"] for kind in KINDS}
        self.networks = {
            "student": CCTNetwork(unet(config.model), sum(self.counts.values()), config.method.auxiliary_width)
        }

    def loss(self, variables, teacher, batch, rng, step):
        images, split = batching.join(batch.image, batch.strong[0])
        output, variables = self.apply_train("student", variables, images)
        labelled, unlabelled = split(output)
        features = self.perturb(rng, unlabelled.features[-1], unlabelled.logits)
        logits = self.networks["student"].apply(variables["student"], features, method="decode")

        squared_error = jax.vmap(losses.squared_error, in_axes=(0, None))
        terms = {
            "supervised": lambda: losses.supervised(labelled.logits, batch.label),
            "consistency": lambda: losses.masked_mean(
                squared_error(losses.softmax(logits), losses.softmax(unlabelled.logits))
            ),
        }
        terms = compute(terms)
        weight = self.config.consistency_weight * sigmoid_ramp(step, self.ramp_steps)
        total = terms["supervised"] + weight * terms["consistency"]
        return total, (diagnose(total, terms, weight), variables)

    @jax.named_scope("perturb")
    def perturb(self, rng: jax.Array, z: jax.Array, logits: jax.Array) -> jax.Array:
        """P_j(z) of every auxiliary decoder j: b y x c and the main logits b Y X 2 -> j b y x c."""
        method = self.config
        label = jax.lax.stop_gradient(logits).argmax(axis=-1)
        foreground = jax.image.resize(label, z.shape[:3], "nearest")
        functions = {
            "noise": lambda key: perturbations.feature_noise(key, z, method.noise_strength),
            "drop": lambda key: perturbations.feature_drop(key, z, method.drop_low, method.drop_high),
            "dropout": lambda key: perturbations.channel_dropout(key, z, method.dropout_rate),
            "cutout": lambda key: perturbations.guided_cutout(key, z, foreground, method.cutout_fraction),
            "context": lambda key: perturbations.keep_foreground(z, foreground),
            "object": lambda key: perturbations.keep_context(z, foreground),
        }
        keys = jax.random.split(rng, sum(self.counts.values()))
        perturbed, first = [], 0
        for kind, count in self.counts.items():
            if count:
                perturbed.append(jax.vmap(functions[kind])(keys[first : first + count]))
                first += count
        return jnp.concatenate(perturbed)
