"""The starter: weights that come with the package, to segment a volume or start a training without any label."""

import os
import shutil
from pathlib import Path

from dualrel_jax.errors import InputError

NAME = "starter"
FILES = ("config.json", "run.json", "partition.json", "weights.safetensors", "README.md")
_FOLDER = Path(__file__).parent


def folder(path: str | Path) -> Path:
    """`path`, or where the package keeps the starter if that is its name and no such path exists."""
    return _FOLDER if str(path) == NAME and not Path(path).exists() else Path(path)


def is_it(path: Path) -> bool:
    """Whether this is the folder in which the package keeps the starter."""
    return path.resolve() == _FOLDER.resolve()


def unpack(path: str | Path) -> None:
    """Copies the starter into the folder `starter`, a run like any other, if `path` names it and it is not there."""
    source = folder(path)
    if source != _FOLDER:
        return
    target = Path(path)
    whole = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        whole.mkdir()
        for name in FILES:
            shutil.copyfile(source / name, whole / name)
        whole.rename(target)  # at once: other commands may begin now, too
    except OSError as error:
        shutil.rmtree(whole, ignore_errors=True)
        if target.exists():  # that of a command that was faster
            return
        raise InputError(
            f"The starter cannot be copied into {target.absolute()} ({error.strerror}); work in a folder where you may "
            "write."
        ) from error
    print(f"The weights that come with dualrel_jax are now the run {target}.")
