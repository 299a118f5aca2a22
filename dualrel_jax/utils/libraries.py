"""Libraries that only some people need: those of the extra `[formats]` and of `export --to bioimageio`."""

import importlib
from types import ModuleType

from dualrel_jax.errors import InputError


def load_library(module: str, packages: str, need: str, otherwise: str = "") -> ModuleType:
    """The imported `module`; InputError with the command that installs its `packages` where it is missing.

    Args:
        need: begins the sentence of the error: what needs the module.
        otherwise: ends it: what else a person can do.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        advice = f"run `pip install {packages}`{otherwise}"
        raise InputError(f"{need} needs {module}, which is not installed: {advice}.") from error
