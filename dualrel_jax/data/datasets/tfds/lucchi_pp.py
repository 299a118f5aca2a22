"""TFDS builder of `lucchi_pp`."""

from dualrel_jax.data.datasets.tfds.base import SliceBuilder


class LucchiPp(SliceBuilder):
    """The volumes of `lucchi` with labels redrawn (Casser et al., 2020): train, test."""
