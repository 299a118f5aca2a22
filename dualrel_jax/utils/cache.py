"""The folder for what can be made again."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where the user keeps what can be made again; XDG_CACHE_HOME moves it. It need not exist, nor be writable."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dualrel_jax"
