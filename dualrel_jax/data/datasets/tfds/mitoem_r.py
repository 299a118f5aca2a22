"""TFDS builder of `mitoem_r`."""

from dualrel_jax.data.datasets.tfds.base import SliceBuilder


class MitoemR(SliceBuilder):
    """Rat cortex, ATUM-SEM at 30 x 8 x 8 nm (MitoEM, Wei et al., 2020): train, test (its validation slices)."""
