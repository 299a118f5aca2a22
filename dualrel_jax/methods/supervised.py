"""The supervised baseline: the labelled slices alone."""

import jax

from dualrel_jax.methods import losses
from dualrel_jax.methods.base import Method


class Supervised(Method):
    """Cross-entropy and soft Dice on labelled crops; unlabelled slices are never read."""

    def loss(self, variables, teacher, batch, rng, step):
        output, variables = self.apply_train("student", variables, batch.image)
        with jax.named_scope("loss_supervised"):
            total = losses.supervised(output.logits, batch.label)
        return total, ({"loss": total}, variables)
