"""DualRel in JAX: mitochondria segmentation of electron microscopy volumes from a few labelled slices.

    import dualrel_jax
    config = dualrel_jax.get_config("dualrel:phantom,1/32")
    dualrel_jax.train_and_evaluate(config, "runs/demo")

The public functions, imported at their first use, so that `import dualrel_jax` takes no time:

    get_config(name)                     the config of a method and a data set
    train_and_evaluate(config, workdir)  trains, or continues, a run and scores it
    evaluate(workdir, config)            scores a finished run again
    predict(workdir, config)             segments a volume into a mask on disk
    segment_instances(workdir, config)   numbers and measures every mitochondrion of a predicted volume
    open_volume(path)                    opens any supported volume as a lazy `z y x` array
    InputError                           the exception for wrong input, with one sentence for the user
"""

import importlib
import sys
import types

_HOME = {  # public name -> the module that defines it
    "get_config": "config",
    "train_and_evaluate": "train",
    "evaluate": "evaluate",
    "predict": "predict",
    "segment_instances": "segment_instances",
    "open_volume": "data.io.volume",
    "InputError": "errors",
}
__all__ = [*_HOME]
__version__ = "0.1.0"


class _Package(types.ModuleType):
    """This package. Some functions are named like their module: `dualrel_jax.predict` stays the function."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _HOME and isinstance(value, types.ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'dualrel_jax' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"dualrel_jax.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
