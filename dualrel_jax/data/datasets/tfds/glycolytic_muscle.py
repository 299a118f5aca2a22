"""TFDS builder of `glycolytic_muscle`."""

from dualrel_jax.data.datasets.tfds.base import SliceBuilder


class GlycolyticMuscle(SliceBuilder):
    """Glycolytic muscle, volume EM at 18 x 18 x 18 nm (EMPIAR-10982; Conrad and Narayan, 2023): train."""
