"""Two processes, as on two hosts, train together from a store of 30 GB of which little was ever written."""

import ast
import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from ports import free_port
from scipy import ndimage

from dualrel_jax.data.io import ome_zarr
from dualrel_jax.utils.jsonl import read_records

pytestmark = pytest.mark.slow

SHAPE, CORNER, SIDE = (100, 17_500, 17_500), 5504, 512  # where samples of large slices lie
MOST_MIB = 2_500  # of each process
# Runs the command, and prints the crops that it read and what the parameters are at the end.
PROGRAM = """
import importlib, sys
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.inference.prediction_record import digest_of
from dualrel_jax.main import main

region, crops = Volume._region, set()
def recorded(volume, z, y, x):
    if volume.shape[1] == 17_500 and y.stop - y.start < 512:  # not those squares that samples are
        crops.add((z, y.start, x.start))
    return region(volume, z, y, x)
Volume._region = recorded
module = importlib.import_module("dualrel_jax.train")
train = module.train
def reported(*args, **options):
    state = train(*args, **options)
    print("parameters", digest_of(state.variables))
    print("crops", sorted(crops))
    return state
module.train = reported
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def store(tmp_path):
    """Path of the zarr: tissue in 8 slices of a corner, and labels of these in labels.tif."""
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(8, SIDE, SIDE)), (1, 8, 8))
    label = field > np.quantile(field, 0.85)
    array = ome_zarr.open_level(tmp_path / "em.zarr", 0, SHAPE, np.dtype(np.uint8))
    array[:8, CORNER : CORNER + SIDE, CORNER : CORNER + SIDE].write(np.where(label, 80, 150).astype(np.uint8)).result()
    tifffile.imwrite(tmp_path / "labels.tif", label.astype(np.uint8) * 255)
    return tmp_path / "em.zarr" / "0"


def test_each_reads_its_part_and_both_have_the_same_parameters(store, small_config, tmp_path):
    config = small_config("mean_teacher")
    box = f"[0:8,{CORNER}:{CORNER + SIDE},{CORNER}:{CORNER + SIDE}]"
    config.data.update({"image": f"{store}{box}", "label": str(tmp_path / "labels.tif"), "unlabelled": str(store)})
    config.data.update({"test_image": "", "test_label": "", "train_region": "0:6", "validation_region": "6:8"})
    config.train.update({"steps": 4, "devices": 0})
    (tmp_path / "config.py").write_text(
        "import json\nfrom ml_collections import ConfigDict\n"
        f"def get_config():\n    return ConfigDict(json.loads({config.to_json_best_effort()!r}))\n"
    )
    hosts = [f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2"]
    flags = [f"--config={tmp_path / 'config.py'}", f"--workdir={tmp_path / 'run'}", "--mode=train", *hosts]
    environment = {**os.environ, "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("count=4", "count=1")}
    logs = [tmp_path / f"{i}.log" for i in range(2)]
    processes = []
    for i, log in enumerate(logs):
        command = [sys.executable, "-c", PROGRAM, *flags, f"--process_id={i}"]
        with log.open("w") as output:
            processes.append(subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT))
    peaks = [os.wait4(process.pid, 0)[1:] for process in processes]
    texts = [log.read_text() for log in logs]
    assert [status for status, _ in peaks] == [0, 0], "\n".join(texts)
    lines = [dict(line.partition(" ")[::2] for line in text.splitlines()) for text in texts]
    assert lines[0]["parameters"] == lines[1]["parameters"]
    crops = [set(ast.literal_eval(each["crops"])) for each in lines]
    assert all(len(each) >= 8 for each in crops) and not crops[0] & crops[1]
    assert max(usage.ru_maxrss / 1024 for _, usage in peaks) < MOST_MIB  # 1,455 and 1,391 when this was written
    steps = [record["step"] for record in read_records(tmp_path / "run" / "metrics.jsonl") if "train/loss" in record]
    assert steps == [1, 2, 3, 4]
