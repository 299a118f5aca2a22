"""Figures from finished runs: the files, the numbers in them, and the runs that may be compared."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from dualrel_jax import config as config_lib
from dualrel_jax import figures
from dualrel_jax.errors import InputError
from dualrel_jax.main import main
from dualrel_jax.methods import create_method
from dualrel_jax.training.checkpoint import Checkpoints
from dualrel_jax.training.state import abstract_state
from dualrel_jax.training.workdir import claim_workdir

OF_SLICES = {"confusion", "masks"}
OF_PROTOTYPES = {"reliability", "activations", "references", "reliability_at_borders", "diversity"}


def read(path):
    """`y x c` uint8, of a PNG that lies beside a PDF."""
    assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    with Image.open(path) as image:
        assert 300 <= min(image.size) and max(image.size) <= 3000
        return np.asarray(image.convert("RGB"))


def names(folder):
    return {path.stem for path in folder.glob("*.png")}


@pytest.fixture
def finished(small_config, tmp_path):
    """A function (folder, method, changed fields) -> work folder of a run with random weights: no training."""

    def run(folder, method="dualrel", **changed):
        config = small_config(method)
        config.predict.threshold = 0.5  # none is calibrated: there is no partition
        for key, value in changed.items():
            section, field = key.split("__")
            config[section][field] = value
        config, workdir = config_lib.resolve(config), tmp_path / folder
        random = np.random.default_rng(0)
        state = jax.tree.map(
            lambda x: random.normal(scale=0.3, size=x.shape).astype(x.dtype),
            abstract_state(create_method(config), config),
        )
        claim_workdir(config, workdir)
        (workdir / "run.json").write_text('{"pixel_nm": null}')
        with Checkpoints(workdir / "checkpoints") as checkpoints:
            checkpoints.save(1, state)
            checkpoints.wait()
        return workdir

    return run


def test_one_command_draws_runs_side_by_side(finished, capsys):
    with_loss, without = finished("with"), finished("without", method__diversity_weight=0.0)
    supervised = finished("supervised", "supervised")
    assert main([f"--workdir={with_loss}", "--mode=figures", f"--compare={without},{supervised}"]) == 0
    assert names(with_loss / "figures") == OF_SLICES | OF_PROTOTYPES
    for name in OF_SLICES | OF_PROTOTYPES:
        assert (read(with_loss / "figures" / f"{name}.png") < 128).any()
    found = json.loads((with_loss / "figures" / "figures.json").read_text())
    assert list(found["runs"]) == ["dualrel (with)", "dualrel (without)", "supervised"]
    assert found["with_and_without_diversity"] == [["dualrel (with)", "dualrel (without)"]]
    assert "prototypes" not in found["runs"]["supervised"]
    own = found["runs"]["dualrel (with)"]
    assert own["prototypes"]["images"] == len(found["z"]) == 12
    assert 0 < own["confusion"]["share_of_pixels_near_border"] < 1
    assert np.shape(own["prototypes"]["pairwise_cosine"]) == (16, 16)
    text = (with_loss / "figures" / "figures.md").read_text()
    assert text.count("lies at the border") == 3 and "with the loss, dualrel (without)" in text
    assert text in capsys.readouterr().out

    assert main([f"--workdir={supervised}", "--mode=figures"]) == 0
    assert names(supervised / "figures") == OF_SLICES
    assert "supervised" in capsys.readouterr().out.split("left out: ")[1]


def test_runs_on_other_slices_are_refused(finished, capsys):
    run = finished("run", "supervised")
    other = finished("other", "supervised", data__validation_region="9:12", data__train_region="0:8")
    said = ["--config.data.test_image=", "--config.data.test_label="]  # both are tested on their validation block
    assert main([f"--workdir={run}", "--mode=figures", f"--compare={other}", *said]) == 2
    error = capsys.readouterr().err
    assert "3 slices (z = 9 to 11)" in error and "2 slices (z = 10 to 11)" in error
    with pytest.raises(InputError, match="folders of different names"):
        figures.load_runs([run, run], None)
    with pytest.raises(InputError, match="no finished or started run"):
        figures.load_runs([run, run / "nothing"], None)
