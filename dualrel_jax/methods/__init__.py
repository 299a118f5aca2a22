"""Methods by name: pure losses under one training loop."""

import functools
import importlib

from ml_collections import ConfigDict

from dualrel_jax.methods.base import Method

_CLASSES = {  # name -> module, class
    "supervised": ("supervised", "Supervised"),
    "mean_teacher": ("mean_teacher", "MeanTeacher"),
    "cct": ("cct", "CCT"),
    "gct": ("gct", "GCT"),
    "cps": ("cps", "CPS"),
    "cps_cutmix": ("cps", "CPSWithCutMix"),
    "unimatch": ("unimatch", "UniMatch"),
    "rankmatch": ("rankmatch", "RankMatch"),
    "dualrel": ("dualrel", "DualRel"),
    "dualrel_paper": ("dualrel", "DualRel"),
}


def create_method(config: ConfigDict) -> Method:
    """The method named by `config.method.name`."""
    return _class(config.method.name)(config)


@functools.cache
def first_segmenters() -> frozenset[str]:
    """The names that methods give to the network of their prediction `head`."""
    return frozenset(_class(name).segmenters[0] for name in _CLASSES)


def _class(name: str) -> type[Method]:
    module, of_class = _CLASSES[name]
    return getattr(importlib.import_module(f"dualrel_jax.methods.{module}"), of_class)
