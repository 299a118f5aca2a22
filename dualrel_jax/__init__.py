"""DualRel in JAX: mitochondria segmentation of electron microscopy volumes from a few labelled slices.

    import dualrel_jax
    config = dualrel_jax.get_config("dualrel:phantom,1/32")
    dualrel_jax.train_and_evaluate(config, "runs/demo")

Names are imported when first used, so that `import dualrel_jax` costs nothing.
"""

import importlib

_HOME = {
    "get_config": "settings",
    "train_and_evaluate": "train",
    "evaluate": "evaluation",
    "predict": "prediction",
    "open_volume": "data.volumes",
    "InputError": "errors",
}
__all__ = [*_HOME]
__version__ = "0.1.0"


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'dualrel_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dualrel_jax.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
