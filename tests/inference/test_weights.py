"""Trainings that start from the weights of an earlier run or file."""

import json
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from states import last_state

import dualrel_jax
from dualrel_jax.errors import InputError
from dualrel_jax.inference.weights import fit, read_weights, starting_weights
from dualrel_jax.methods import create_method
from dualrel_jax.train import train
from dualrel_jax.training.state import abstract_state
from dualrel_jax.training.weights_file import flatten
from dualrel_jax.utils import sharding


@pytest.fixture(scope="session")
def earlier(volume_files, tmp_path_factory):
    """A file of the weights of a supervised training; their values stand for trained ones."""
    folder = tmp_path_factory.mktemp("earlier")
    rng = np.random.default_rng(0)
    state = state_of(tiny("supervised", volume_files))
    weights = {name: rng.normal(size=leaf.shape).astype(np.float32) for name, leaf in flatten(state.variables).items()}
    save_file(weights, folder / "weights.safetensors")
    return folder / "weights.safetensors"


def state_of(config):
    """A training state at step 0, all zeros."""
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), abstract_state(create_method(config), config))


def tiny(method, volume_files):
    config = dualrel_jax.get_config(f"{method}:own,1/3")
    config.data.pixel_nm = 0.0
    config.data.image, config.data.label = (str(volume_files[f"train_{kind}"]) for kind in ("image", "label"))
    config.data.validation_region = "none"
    config.model.update({"stem": 1, "width": 4, "depth": 2, "dtype": "float32"})
    config.train.update({"steps": 2, "crop_px": 32, "batch_labelled": 4, "batch_unlabelled": 4, "devices": 1})
    config.train.update({"optimizer": "adamw", "checkpoint_every_steps": 1})
    return config


def test_the_unet_of_another_method_fits_and_the_rest_is_new(earlier, volume_files, tmp_path):
    config = tiny("dualrel", volume_files)
    config.train.init = str(earlier)
    initial = starting_weights(config, tmp_path)
    assert "new, for it has none: student/bank, student/reliability." in initial.describe(None)
    mesh = sharding.create_mesh(1)
    state = initial.put_into(jax.device_put(state_of(config), sharding.replicated(mesh)), mesh)
    for after in (flatten(state.variables), flatten(state.teacher)):
        for name, array in load_file(earlier).items():
            np.testing.assert_array_equal(after[name.replace("params/", "params/unet/")], array)
        assert not after["student/params/bank/bank"].any()


@pytest.mark.slow
def test_a_killed_training_continues_without_its_source(volume_files, tmp_path):
    train(tiny("supervised", volume_files), tmp_path / "source")
    config = tiny("supervised", volume_files)
    config.train.init, config.train.steps, config.train.keep_checkpoints = str(tmp_path / "source"), 3, 3
    train(config, tmp_path / "run")
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["init"]
    assert recorded["path"] == str(tmp_path / "source") and recorded["step"] == 2 and len(recorded["sha256"]) == 64
    expected = jax.tree.leaves(last_state(tmp_path / "run", config)[1])
    for step in (2, 3):
        shutil.rmtree(tmp_path / "run" / "checkpoints" / str(step))
    shutil.rmtree(tmp_path / "source")
    train(config, tmp_path / "run")  # from step 1
    for a, b in zip(jax.tree.leaves(last_state(tmp_path / "run", config)[1]), expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["init"] == recorded


def test_a_training_that_began_does_not_start_again(earlier, volume_files, tmp_path):
    config = tiny("supervised", volume_files)
    config.train.init = "nowhere"
    (tmp_path / "checkpoints" / "2").mkdir(parents=True)
    assert starting_weights(config, tmp_path) is None


def test_a_folder_that_export_wrote_is_read(earlier):
    (weights, of_folder), (again, of_file) = read_weights(earlier.parent), read_weights(earlier)
    assert of_folder == of_file
    assert all(np.array_equal(again[name], array) for name, array in weights.items())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "does not exist; expected the folder of a run, or a .safetensors"),
        (lambda path: path.write_text("weights"), "is neither"),
        (lambda path: path.mkdir(), "is neither"),
    ],
)
def test_what_holds_no_weights_is_explained_before_anything_is_written(make, sentence, volume_files, tmp_path):
    make(tmp_path / "source")
    config = tiny("supervised", volume_files)
    config.train.init = str(tmp_path / "source")
    with pytest.raises(InputError, match=sentence):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_damaged_file_is_explained(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"12345678901234567890")
    with pytest.raises(InputError, match=f"{path} cannot be read"):
        read_weights(path)


def test_another_unet_is_refused_by_name_and_shape(earlier, volume_files, tmp_path):
    config = tiny("supervised", volume_files)
    config.train.init, config.model.width = str(earlier), 8
    said = r"train.init is .*: student/params/\S+ is [\dx ]+ here, and there is one of [\dx ]+ there; .*model.width"
    with pytest.raises(InputError, match=said):
        starting_weights(config, tmp_path)
    config.train.init = str(tmp_path)
    with pytest.raises(InputError, match="the folder of this training"):
        starting_weights(config, tmp_path)


def test_of_two_networks_the_first_starts_from_the_one_there_is():
    weights = {"student/params/unet/encoder/Conv_0/kernel": np.ones((3, 3), np.float32)}
    shapes = {f"{side}/params/encoder/Conv_0/kernel": (3, 3) for side in ("left", "right")}
    fitting, fresh = fit(weights, shapes, "there")
    assert list(fitting) == ["left/params/encoder/Conv_0/kernel"] and fresh == ["right"]
    with pytest.raises(InputError, match="there is no such array there"):
        fit({}, shapes, "there")
