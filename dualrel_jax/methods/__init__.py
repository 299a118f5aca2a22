"""Methods by name: pure losses under one training loop."""

import importlib

from ml_collections import ConfigDict

from dualrel_jax.errors import InputError
from dualrel_jax.methods.base import Method

_CLASSES = {  # name -> module, class
    "supervised": ("supervised", "Supervised"),
    "mean_teacher": ("mean_teacher", "MeanTeacher"),
    "cct": ("cct", "CCT"),
    "gct": ("gct", "GCT"),
    "cps": ("cps", "CPS"),
    "unimatch": ("unimatch", "UniMatch"),
    "rankmatch": ("rankmatch", "RankMatch"),
    "dualrel": ("dualrel", "DualRel"),
    "dualrel_paper": ("dualrel", "DualRel"),
}


def create_method(config: ConfigDict) -> Method:
    """The method named by `config.method.name`; its module is imported only here."""
    name = config.method.name
    if name not in _CLASSES:
        raise InputError(f"config.method.name is {name!r}; expected one of {', '.join(_CLASSES)}.")
    module, of_class = _CLASSES[name]
    return getattr(importlib.import_module(f"dualrel_jax.methods.{module}"), of_class)(config)
