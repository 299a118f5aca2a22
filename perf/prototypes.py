"""What the prototypes cost: DualRel's step against the same step without bank, reliability and their losses."""

import functools
import sys
from collections.abc import Iterator

import jax
import jax.numpy as jnp

from dualrel_jax.data.pipeline import augment
from dualrel_jax.methods import cutmix, losses
from dualrel_jax.methods.base import unet
from dualrel_jax.methods.dualrel import DualRel
from dualrel_jax.methods.ramps import sigmoid_ramp
from perf import workload
from perf.report import Table, alternate, command, quartiles
from perf.training import describe, ours


class HeadAlone(DualRel):
    """The same crops, views, U-Net, teacher and pixel losses, predicted by the head alone."""

    def __init__(self, config):
        super().__init__(config)
        self.networks = {"student": unet(config.model)}

    def loss(self, variables, teacher, batch, rng, step):
        b, u, side = len(batch.image), len(batch.weak), batch.weak.shape[1]
        mix = functools.partial(cutmix.paste_next, cutmix.three_boxes(rng, u, side))
        zoom = functools.partial(augment.zoom_each, self.zooms(rng, u))
        images = jnp.concatenate([batch.image, zoom(batch.strong[0]), mix(batch.strong[1])])
        output, variables = self.apply_train("student", variables, images)
        predicted = jax.nn.softmax(self.apply_teacher("student", teacher, batch.weak).logits)
        labelled, strong, pasted = jnp.split(output.logits, (b, b + u))
        soft = losses.masked_mean(losses.squared_error(jax.nn.softmax(strong), zoom(predicted)))
        cross = losses.masked_mean(losses.cross_entropy(pasted, mix(predicted).argmax(axis=-1)))
        ramp = sigmoid_ramp(step, self.ramp_steps)
        unlabelled = self.config.pixel_consistency_weight * soft + self.config.cross_pseudo_label_weight * cross
        total = losses.supervised(labelled, batch.label) + ramp * unlabelled
        return total, ({"loss": total}, variables)


def main(quick: bool = False) -> Iterator[Table]:
    cases = [("tiny", 256, 4)] if jax.default_backend() == "cpu" else [("base", 512, 8)]
    if quick:
        cases = [("test", 32, 2)]
    rows = []
    for size, patch, batch in cases:
        config = workload.create_config(size, patch, batch)
        contenders = {}
        for name, create in (("whole", DualRel), ("without", HeadAlone)):
            method = create(config)
            state, key = workload.initial_state(method, config), jax.random.key(1)
            step = jax.jit(workload.make_step(method, config), donate_argnums=0)
            contenders[name] = ours(step, state, workload.random_batch(config), key)
            contenders[name](1)
        times = alternate(contenders, *((2, 1) if quick else (10, 3)))
        share = 100 * (1 - times["without"] / times["whole"])
        rows.append([describe(config), quartiles(times["whole"]), quartiles(times["without"]), quartiles(share)])
    columns = ["U-Net, type, crops", "whole step, s", "without prototypes, s", "share of the prototypes, %"]
    yield Table("Share of the prototypes", columns, rows, "Quartiles over rounds that alternate in one process.")


if __name__ == "__main__":
    sys.exit(command(main))
