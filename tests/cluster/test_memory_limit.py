"""Instances of a volume that is larger than the memory a process may take."""

import csv
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

import dualrel_jax
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.segment_instances import segment_instances

pytestmark = pytest.mark.slow


def _segment_within(limit_bytes, folder, queue):
    """Runs `instances` with so many bytes more than after the imports; puts the path of the table, or the error."""
    import resource

    os.environ["MALLOC_ARENA_MAX"] = "2"
    whole = dualrel_jax.get_config("supervised:phantom,1/32")
    config = ConfigDict({"predict": whole.predict, "instances": whole.instances})
    config.instances.update({"input": f"{folder}/probability.zarr", "output": f"{folder}/cells.zarr"})
    open_volume(config.instances.input)[:1]
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + limit_bytes,) * 2)
    try:
        queue.put(str(segment_instances(folder, config)["csv"]))
    except BaseException as error:  # told to the test
        queue.put(repr(error))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of address space is that of Linux")
def test_a_volume_larger_than_the_memory_limit_completes(tmp_path):
    """2.15 GB of voxels, most of them never written, within 2.1 GB; a rod runs through eleven boxes."""
    shape, voxel_nm = (512, 2048, 2048), (10.0, 10.0, 10.0)
    rod = np.zeros((32, 256, 2048), np.uint8)
    rod[6:26, 100:120] = 200
    with open_writer(tmp_path / "probability.zarr", shape, np.uint8, voxel_nm, keep=True) as writer:
        writer.write_block((256, 1024, 0), rod)
        writer.write_block((0, 0, 0), rod[:, :, :50])
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_segment_within, args=(2000 * 2**20, str(tmp_path), queue))
    process.start()
    table = queue.get()
    process.join()
    rows = list(csv.DictReader(open(table)))
    assert [row["x_stop"] for row in rows] == ["2048", "50"]
    assert float(rows[0]["volume_um3"]) == pytest.approx(20 * 20 * 2048 * 1e-6)
    assert float(rows[0]["length_um"]) == pytest.approx(20.48, rel=1e-3)
