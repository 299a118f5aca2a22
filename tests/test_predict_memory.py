"""Prediction of a volume that is larger than the memory it may take, killed and continued."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.inference.unsure_parts import without_unsure_parts

PROGRAM = """
import resource, sys
from pathlib import Path
import numpy as np
import dualrel_jax
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.inference.predict_volume import predict_volume

class Bright:
    in_flight = slices_at_once = 1
    def __call__(self, variables, image):
        return image / np.float32(255)

settings = dualrel_jax.get_config("supervised:phantom").predict
settings.intensity_range, settings.window_px, settings.unsure_margin = "0,255", int(sys.argv[2]), 0.15
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
folder = Path(sys.argv[1])
predict_volume(Bright(), 0.0, open_volume(folder / "em.zarr"), folder / "mask.zarr", settings, pixel_nm=None)
print("MiB", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def sparse_volume(folder, shape, tissue):
    """em.zarr of this shape, of which only some chunks were ever written: those of `tissue`, corner -> z y x."""
    import tensorstore as ts

    metadata = {"shape": shape, "data_type": "uint8"}
    metadata["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": [64, 64, 64]}}
    metadata["codecs"] = [{"name": "bytes"}, {"name": "zstd", "configuration": {"level": 1}}]
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{folder}/em.zarr/"}, "metadata": metadata}
    store = ts.open(spec, create=True).result()
    for corner, block in tissue.items():
        store[tuple(slice(at, at + n) for at, n in zip(corner, block.shape, strict=True))].write(block).result()


def predict_killed_and_continued(folder, shape, side, blocks_before_kill, limit_mib):
    """Predicts a sparse volume in a process that is killed, then in another; checks memory and result."""
    tissue = np.random.default_rng(0).integers(1, 256, (64, 128, 128), dtype=np.uint8)
    tissue[[0, -1]] = tissue[:, [0, -1]] = tissue[:, :, [0, -1]] = 0  # the copies do not touch
    corners = [
        tuple((n - m) * share // (3 * 64) * 64 for n, m in zip(shape, tissue.shape, strict=True)) for share in (0, 1, 2)
    ]
    sparse_volume(folder, shape, dict.fromkeys(corners, tissue))
    command = [sys.executable, "-c", PROGRAM, str(folder), str(side)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    progress = Path(folder / "mask.zarr.progress.json")
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (
        progress.exists() and json.loads(progress.read_text())["done"] >= blocks_before_kill
    ):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = json.loads(progress.read_text())["done"]
    assert done >= blocks_before_kill and not (folder / "mask.zarr").exists()
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert float(result.stdout.split("MiB")[-1]) < limit_mib
    mask = open_volume(folder / "mask.zarr", verbose=False)
    expected = np.where(without_unsure_parts(tissue, 0.5, 0.15), 255, 0)
    assert 0 < np.count_nonzero(expected) < np.count_nonzero(tissue > 127)
    assert mask.shape == tuple(shape)
    for z, y, x in corners:
        np.testing.assert_array_equal(mask[z : z + 64, y : y + 128, x : x + 128], expected)
    assert not mask[-1].any()


@pytest.mark.slow
def test_30_gigabytes_pass_in_bounded_memory(tmp_path):
    predict_killed_and_continued(tmp_path, (1000, 4000, 8000), 2048, 100, limit_mib=1500)


def test_a_process_that_is_killed_and_one_that_continues(tmp_path):
    predict_killed_and_continued(tmp_path, (200, 600, 300), 256, 6, limit_mib=400)
