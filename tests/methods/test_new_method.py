"""A method that is added as CONTRIBUTING says works in every command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path

import dualrel_jax
from dualrel_jax import config
from dualrel_jax.config.document import describe, markdown
from dualrel_jax.train import train

assert describe("config.train.steps") and "(pi_model)" in describe("config.method.pi_weight")
assert "## Pi-Model: `config.method` of `configs/pi_model.py`" in markdown()
assert "pi_model" in config.get_config("benchmark:phantom").rows
assert "cct_third" in config.get_config("tuning:phantom").rows
small = dualrel_jax.get_config("pi_model:own,1/3")
small.data.image, small.data.label = sys.argv[1:]
small.model.update({"stem": 1, "width": 2, "depth": 2, "dtype": "float32"})
small.train.update({"steps": 1, "crop_px": 16, "batch_labelled": 2, "batch_unlabelled": 2, "optimizer": "adamw"})
small.train.devices, small.data.validation_region = 1, "none"
train(small, Path("run"))
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the package with one method more; -> its folder."""
    ignore = shutil.ignore_patterns("configs", "__pycache__")
    shutil.copytree(ROOT / "dualrel_jax", tmp_path / "dualrel_jax", ignore=ignore)
    shutil.copytree(ROOT / "configs", tmp_path / "dualrel_jax" / "configs")
    for folder in ("methods", "configs"):
        copy = (tmp_path / "dualrel_jax" / folder / "mean_teacher.py").read_text()
        for old, new in {
            "mean_teacher": "pi_model",
            "MeanTeacher": "PiModel",
            "consistency_weight": "pi_weight",
        }.items():
            copy = copy.replace(old, new)
        (tmp_path / "dualrel_jax" / folder / "pi_model.py").write_text(copy)
    add_entry(tmp_path / "dualrel_jax" / "methods" / "__init__.py", "_CLASSES", '"pi_model": ("pi_model", "PiModel"),')
    add_entry(tmp_path / "dualrel_jax" / "constants.py", "METHOD_TITLES", '"pi_model": "Pi-Model",')
    return tmp_path


def add_entry(path, name, entry):
    before, start, after = path.read_text().partition(f"{name} = {{")
    assert start
    path.write_text(f"{before}{start}\n    {entry}{after}")


def test_a_method_that_is_added_as_the_guide_says_is_offered_compared_and_trained(package, volume_files):
    environment = {**os.environ, "PYTHONPATH": str(package)}
    words = [sys.executable, "-c", PROGRAM, volume_files["train_image"], volume_files["train_label"]]
    done = subprocess.run(words, cwd=package, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (package / "run" / "checkpoints" / "1").is_dir()


def test_the_guide_names_the_places_that_a_method_is_added_to():
    guide = (ROOT / "CONTRIBUTING.md").read_text().partition("## Add a method")[2].partition("\n## ")[0]
    places = ("dualrel_jax/methods/mean_teacher.py", "configs/mean_teacher.py", "_CLASSES", "METHOD_TITLES")
    assert all(place in guide for place in places)
