"""Memory and time of `instances` against the size of a volume, mostly empty, in boxes of one size."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dualrel_jax.data.io.writers import open_writer
from perf.processes import run_python
from perf.report import Table, command

SIDE, VOXEL_NM, FILLED = 256, (10.0, 10.0, 10.0), 2
CODE = """
from ml_collections import ConfigDict
import dualrel_jax
from dualrel_jax.segment_instances import segment_instances
from perf.processes import peak_mib
whole = dualrel_jax.get_config("supervised:phantom,1/32")
config = ConfigDict({{"predict": whole.predict, "instances": whole.instances}})
config.instances.update({{"input": "{path}", "output": "{path}.instances.zarr", "box_px": {side}}})
before = peak_mib()
segment_instances("{path}", config)
print(before)
"""


def write_volume(path: Path, cubes: int, side: int) -> None:
    """A zarr of `cubes`^3 cubes of `side` voxels; up to `FILLED` of them hold balls, the others are never written."""
    z = y = x = (np.arange(side) % 64 - 32) ** 2
    balls = (z[:, None, None] + y[:, None] + x < 22**2).astype(np.uint8) * 200
    with open_writer(path, (cubes * side,) * 3, np.uint8, VOXEL_NM, keep=True) as writer:
        for i in np.linspace(0, cubes**3 - 1, min(FILLED, cubes**3)).astype(int):
            writer.write_block(tuple(int(c) * side for c in np.unravel_index(i, (cubes,) * 3)), balls)


def main(quick: bool = False) -> Iterator[Table]:
    side, rows = (64 if quick else SIDE), []
    for cubes in (1, 2) if quick else (2, 4, 6):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "probability.zarr"
            write_volume(path, cubes, side)
            ended = run_python(CODE.format(path=path, side=side))
        before = float(ended.output.splitlines()[-1])
        size = f"{(cubes * side) ** 3 / 1e9:.2g} GB, {cubes**3} boxes"
        rows.append([size, f"{ended.peak_mib:.0f}", f"{before:.0f}", f"{ended.seconds:.0f}"])
    note = (
        f"Boxes of {side} voxels; up to {FILLED} of them hold balls, the others were never written. Peak of the "
        "process, and what it had before: the imports."
    )
    yield Table("Instances out of core", ["volume", "peak MiB", "before MiB", "s"], rows, note)


if __name__ == "__main__":
    sys.exit(command(main))
