"""TFDS builder of `vnc`."""

from dualrel_jax.data.datasets.tfds.base import SliceBuilder


class Vnc(SliceBuilder):
    """Fruit fly larva ventral nerve cord, ssTEM at 50 x 4.6 x 4.6 nm (Gerhard et al., 2013): train, unlabelled."""
