"""An array on disk for the time of a computation, which several processes may fill, chunk by chunk."""

from pathlib import Path
from typing import Any

import numpy as np


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
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder}/"}, "metadata": metadata}
    return ts.open(spec, open=True, create=True).result()
