"""The inputs of ../shared/cases, beside the repository, are read or refused as its cases.json says."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import config

from dualrel_jax.data.datasets.own import parse_voxel
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.errors import InputError
from dualrel_jax.instances.segment import check_range

CASES = Path(__file__).parents[3] / "shared" / "cases" / "make_cases.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the cases are written."""
    if not CASES.is_file() or importlib.util.find_spec("zarr") is None:
        pytest.skip("needs ../shared/cases and zarr")
    folder = tmp_path_factory.mktemp("cases")
    subprocess.run([sys.executable, str(CASES), str(folder)], check=True, capture_output=True)
    return folder


def cases(folder, *kinds):
    listed = [case for case in json.loads((folder / "cases.json").read_text()) if case["kind"] in kinds]
    assert listed
    return listed


def test_kinds_of_cases(folder):
    known = {"axes", "voxel size of a level", "unit", "photometric", "codec", "link", "range", "labels"}
    assert {case["kind"] for case in json.loads((folder / "cases.json").read_text())} == known


def test_files_are_read(folder):
    reference = np.load(folder / "reference.npy")
    for case in cases(folder, "axes", "voxel size of a level", "unit", "photometric", "codec", "link"):
        volume = open_volume(folder / case["path"])
        shape = tuple(case.get("shape", reference.shape))
        step = reference.shape[1] // shape[1]
        assert volume.shape == shape, case
        np.testing.assert_array_equal(volume[:], reference[:, ::step, ::step], err_msg=str(case))
        if "voxel_nm" in case:
            assert volume.voxel_nm == (case["voxel_nm"] and tuple(case["voxel_nm"])), case
    assert open_volume(folder / "micrometres.n5/em").voxel_nm == (30, 10, 10)


def test_voxel_sizes_of_no_microscope(folder):
    with pytest.raises(InputError, match="predict.voxel_nm=.*expected .* 0.5 to 100 nm"):
        parse_voxel("30000,10000,10000", "predict.voxel_nm")


def test_probabilities_above_1(folder):
    for case in cases(folder, "range"):
        with pytest.raises(InputError, match="values from 0 to 20; expected .* 0 to 1"):
            check_range(open_volume(folder / case["path"])[:], case["path"])


def test_labels(folder):
    messages = {
        "labels_1_2.tif": "1, 2, but .*data.ignore_value=0 if these are classes",
        "labels_minus_1.tif": "negative",
    }
    for case in cases(folder, "labels"):
        with pytest.raises(InputError, match=messages[case["path"]]):
            load_dataset(config("own", "all", image=str(folder / "plain.tif"), label=str(folder / case["path"])))
