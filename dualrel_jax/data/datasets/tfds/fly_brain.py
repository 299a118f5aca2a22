"""TFDS builder of `fly_brain`."""

from dualrel_jax.data.datasets.tfds.base import SliceBuilder


class FlyBrain(SliceBuilder):
    """Adult fly brain, volume EM at 12 x 12 x 12 nm (EMPIAR-10982; Conrad and Narayan, 2023): train."""
