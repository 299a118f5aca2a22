"""The supervised baseline: the labelled slices alone."""

from dualrel_jax.methods.base import Method


class Supervised(Method):
    """Cross-entropy and soft Dice on labelled crops; unlabelled slices are never read."""

    def loss(self, variables, teacher, batch, rng, step):
        return self.labelled_loss(variables, batch)
