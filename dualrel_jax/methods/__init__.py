"""Methods by name: pure losses under one training loop."""

import importlib

from ml_collections import ConfigDict

from dualrel_jax.errors import InputError
from dualrel_jax.methods.base import Method

_CLASSES = {  # module -> class
    "supervised": "Supervised",
    "mean_teacher": "MeanTeacher",
    "cct": "CCT",
    "gct": "GCT",
    "cps": "CPS",
    "unimatch": "UniMatch",
    "dualrel": "DualRel",
}


def create_method(config: ConfigDict) -> Method:
    """The method named by `config.method.name`; its module is imported only here."""
    name = config.method.name
    if name not in _CLASSES:
        raise InputError(f"config.method.name is {name!r}; expected one of {', '.join(_CLASSES)}.")
    return getattr(importlib.import_module(f"dualrel_jax.methods.{name}"), _CLASSES[name])(config)
