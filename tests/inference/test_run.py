"""What is compiled once for a run."""

import shutil
import types

import jax
import numpy as np

from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.inference.choice import is_known
from dualrel_jax.inference.run import Run, load_run
from dualrel_jax.inference.weights import read_weights
from dualrel_jax.train import train
from dualrel_jax.training.checkpoint import Checkpoints


def run_of(method):
    return Run(None, None, method, None, None, 0, None)


def test_activations_are_jitted_once_for_a_run_and_none_without_prototypes():
    run = run_of(types.SimpleNamespace(activations=lambda variables, image: image + variables))
    assert run.activations is run.activations
    assert run.activations(1.0, 2.0) == 3
    assert run_of(types.SimpleNamespace()).activations is None


def test_weights_are_read_whatever_the_optimiser_left(small_config, tmp_path):
    config = small_config("supervised")
    config.train.update({"steps": 2, "eval_every_steps": 2})
    trained = train(config, tmp_path)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(3, trained.replace(opt_state={"of another version": np.zeros(5, np.float32)}))
    for weights, expected in (("teacher", trained.teacher), ("student", trained.variables)):
        config.predict.weights = weights
        run = load_run(tmp_path, config)
        assert run.step == 3
        jax.tree.map(np.testing.assert_array_equal, run.variables, expected)


def test_a_run_of_more_devices_than_there_are_is_used_on_all_of_them(small_config, tmp_path, monkeypatch):
    config = small_config("supervised")
    config.train.update({"steps": 2, "devices": 4, "eval_every_steps": 2})
    trained = train(config, tmp_path)
    alone = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda: alone)
    run = load_run(tmp_path)
    assert run.predictor.slices_at_once == 1
    for found, expected in zip(jax.tree.leaves(run.variables), jax.tree.leaves(trained.teacher), strict=True):
        assert found.devices() == set(alone)
        np.testing.assert_array_equal(found, expected)
    assert read_weights(tmp_path)[1]["step"] == 2


def test_files_of_the_training_are_those_of_its_folder(small_config, volume_files, tmp_path, monkeypatch):
    """Another project's file of the same name is another volume; from elsewhere the training's own file is known."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, name in ((ours, "train"), (theirs, "test")):
        folder.mkdir()
        for kind in ("image", "label"):
            shutil.copy(volume_files[f"{name}_{kind}"], folder / f"{kind}.tif")
    monkeypatch.chdir(ours)
    config = small_config("supervised")
    config.data.update({"image": "image.tif", "label": "label.tif", "test_image": "", "test_label": ""})
    config.data.update({"voxel_nm": "30,8,8"})
    config.train.update({"steps": 2, "eval_every_steps": 2})
    train(config, "run")
    monkeypatch.chdir(theirs)
    run = load_run(ours / "run")
    assert (run.config.data.image, run.config.data.label) == (str(ours / "image.tif"), str(ours / "label.tif"))
    foreign, own = (
        is_known(run, [open_volume(path, (50.0, 4.0, 4.0))])[0] for path in ("image.tif", ours / "image.tif")
    )
    assert own and not foreign
    typed = run.config.copy_and_resolve_references().unlock()
    typed.data.update(
        {"image": "image.tif", "label": "label.tif", "test_image": "image.tif", "test_label": "label.tif"}
    )
    assert load_run(ours / "run", typed).config.data.test_image == "image.tif"  # named here, for evaluate
