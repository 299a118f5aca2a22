"""An array on disk for the time of a computation, which several processes may fill; errors of the disk."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dualrel_jax.data.io.remote import kvstore_spec
from dualrel_jax.errors import InputError


def open_scratch(folder: Path, shape: tuple[int, ...], dtype: np.dtype | type, chunk: tuple[int, ...]) -> Any:
    """The tensorstore array in `folder`, made where it does not exist; chunks that were never written are zeros.

    Two processes must not write to one chunk at the same time.
    """
    import tensorstore as ts

    metadata = {
        "shape": shape,
        "data_type": np.dtype(dtype).name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "codecs": [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1}}],
    }
    spec = {"driver": "zarr3", "kvstore": kvstore_spec(folder), "metadata": metadata}
    with disk_errors(folder):
        return ts.open(spec, open=True, create=True).result()


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns an error of the disk while `path` is written into an InputError."""
    try:
        yield
    except (OSError, ValueError) as error:  # tensorstore reports a full disk as a ValueError, the reason last
        reason = str(error).split(" [os_error_code")[0].rsplit(": ", 1)[-1]
        raise InputError(
            f"{path}: cannot be written ({getattr(error, 'strerror', None) or reason}); expected a folder with room "
            "and leave to write: free some space or choose another output"
        ) from error
