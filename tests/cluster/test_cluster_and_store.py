"""A volume in a store is segmented and its mitochondria are counted, by workers and without a copy on this machine."""

import csv
import shutil
import subprocess
import sys

import numpy as np
import pytest
import stores

from dualrel_jax import config as config_lib
from dualrel_jax.data.io import remote
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.segment_instances import segment_instances

pytestmark = pytest.mark.slow


def command(run, mode, *flags):
    """Runs `dualrel --mode=...` on two workers; -> what it prints."""
    words = [
        sys.executable,
        "-m",
        "dualrel_jax.main",
        f"--workdir={run}",
        f"--mode={mode}",
        "--cluster=local:2",
        *flags,
    ]
    result = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=run.parent)
    assert result.returncode == 0 and "Traceback" not in result.stdout, result.stdout
    return result.stdout


def test_predict_and_instances_from_a_store_to_a_store(untrained_run, tissue, tmp_path, monkeypatch):
    run = shutil.copytree(untrained_run, tmp_path / "run")
    before = {path for path in run.rglob("*") if path.is_file()}
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    with stores.s3_server() as endpoint:
        stores.use(monkeypatch, endpoint)
        stores.upload(tissue, "s3://bucket/em.zarr")
        flags = ["--config.predict.input=s3://bucket/em.zarr", "--config.predict.output=s3://bucket/out/mask.zarr"]
        printed = command(
            run,
            "predict",
            *flags,
            "--config.predict.task_slices=32",
            "--config.predict.threshold=0.78",
            "--config.predict.z_smoothing_nm=5",
        )
        flags = ["--config.instances.input=s3://bucket/out/mask_probability.zarr", "--config.instances.box_px=64"]
        printed += command(run, "instances", *flags, "--config.instances.output=s3://bucket/out/cells.zarr")
        temporary = [path for path in (tmp_path / "temporary").rglob("*") if path.is_file()]
        assert sum(path.stat().st_size for path in temporary) < 1000, temporary  # locks of Dask
        written = {path for path in run.rglob("*") if path.is_file()} - before
        assert {path.name for path in written} == {
            *("last.json", *(f"mask.{kind}" for kind in ("json", "png"))),
            *(f"cells.{kind}" for kind in ("csv", "json", "png")),
        }
        assert "hidden-key" not in printed + "".join(path.read_text(errors="replace") for path in written)
        keys = [key.decode() for key in remote.open_store(remote.as_place("s3://bucket/out")).list().result()]
        assert {key.partition("/")[0] for key in keys} == {"mask.zarr", "mask_probability.zarr", "cells.zarr"}
        table = run / "instances/s3/bucket/out/cells.csv"
        with open(table) as file:
            rows = list(csv.DictReader(file))
        numbers = open_volume("s3://bucket/out/cells.zarr", verbose=False)[:]
        assert len(rows) == numbers.max() > 5
        # One process, from the same probabilities to a disk.
        config = config_lib.load(run / "config.json")
        config.instances.update({"input": "s3://bucket/out/mask_probability.zarr", "output": f"{tmp_path}/one.zarr"})
        paths = segment_instances(run, config)
        np.testing.assert_array_equal(open_volume(paths["instances"], verbose=False)[:], numbers)
        assert paths["csv"].read_text() == table.read_text()
