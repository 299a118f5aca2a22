"""TFDS builder of `lucchi`."""

from dualrel_jax.data.datasets.tfds.base import SliceBuilder


class Lucchi(SliceBuilder):
    """Mouse hippocampus CA1, FIB-SEM at 5 nm (Lucchi et al., IEEE TMI 2012): train, test."""
