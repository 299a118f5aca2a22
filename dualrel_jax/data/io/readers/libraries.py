"""Libraries that only some formats need: the extra `[formats]`."""

import importlib
from pathlib import Path
from types import ModuleType

from dualrel_jax.errors import InputError


def load_library(module: str, package: str, path: Path) -> ModuleType:
    """The imported `module`; InputError with the command that installs its `package` where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(
            f"{path}: files of this type need the package {package}, which is not installed: run `pip install "
            f"{package}`, or convert the file to TIFF"
        ) from error
