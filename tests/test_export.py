"""An exported model runs without this package, at any size, and predicts what the run's own predictor predicts."""

import subprocess
import sys

import jax
import numpy as np
import pytest
import tifffile

from dualrel_jax import config as config_lib
from dualrel_jax import export
from dualrel_jax.data.datasets.partition import make_partition
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.io.volume import intensity_range, open_volume, to_uint8
from dualrel_jax.errors import InputError
from dualrel_jax.inference import run
from dualrel_jax.inference.weights import starting_weights
from dualrel_jax.methods import create_method
from dualrel_jax.train import init_state
from dualrel_jax.training import weights_file as weights_lib
from dualrel_jax.training.checkpoint import Checkpoints
from dualrel_jax.training.state import create_optimizer
from dualrel_jax.training.workdir import claim_workdir, describe_run
from dualrel_jax.utils import sharding

WITHOUT = "import runpy, sys; sys.modules.update(dualrel_jax=None, flax=None, optax=None, ml_collections=None);"


@pytest.fixture
def trained(small_config, tmp_path):
    """A run folder with the checkpoint of an untrained model, and its config."""
    config = config_lib.resolve(small_config())
    mesh, method, dataset = sharding.create_mesh(1), create_method(config), load_dataset(config.data)
    claim_workdir(config, tmp_path)
    describe_run(tmp_path, dataset, make_partition(dataset.train, config.data), mesh)
    state = init_state(method, create_optimizer(method, config.train), config, mesh)
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(6, state)
    return tmp_path, config


def test_export_runs_without_this_package_and_agrees_with_the_predictor(trained, volume_files, tmp_path):
    workdir, config = trained
    config = config.copy_and_resolve_references().unlock()
    config.predict.prediction_head = "mean"  # of the head and the prototypes: every part of the model
    paths = export.write_export(workdir, config)
    output = tmp_path / "probability.tif"
    arguments = [str(volume_files["test_image"]), str(output)]
    code = f"{WITHOUT} sys.argv[1:] = {arguments}; runpy.run_path({str(paths['load'])!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=300)

    loaded, volume = run.load_run(workdir, config), open_volume(volume_files["test_image"])
    grey = intensity_range(volume)
    probability = tifffile.imread(output)
    assert probability.shape == volume.shape
    for z in (0, len(volume) - 1):
        expected = loaded.predictor(loaded.variables, to_uint8(volume[z], grey))
        np.testing.assert_allclose(probability[z], expected, atol=1e-5)
    assert probability.std() > 1e-3


def test_the_program_takes_any_multiple_and_all_platforms(trained):
    loaded = run.load_run(trained[0])
    weights = weights_lib.flatten(loaded.variables)
    exported = export.export_forward(loaded, weights)
    assert exported.platforms == export.PLATFORMS
    assert str(exported.out_avals[0].shape) == "(b, 2*h, 2*w)"
    probability = exported.call(weights, np.zeros((3, 16, 40), np.uint8))
    assert probability.shape == (3, 16, 40) and probability.dtype == np.float32


def test_the_folder_is_a_run_and_weights_to_start_from(trained):
    workdir, config = trained
    folder = export.write_export(workdir)["weights"].parent
    original, exported = run.load_run(workdir), run.load_run(folder)
    assert (exported.step, exported.pixel_nm) == (original.step, original.pixel_nm)
    for a, b in zip(jax.tree.leaves(original.variables), jax.tree.leaves(exported.variables), strict=True):
        np.testing.assert_array_equal(a, b)
    config = config.copy_and_resolve_references().unlock()
    config.train.init = str(folder)
    initial = starting_weights(config, workdir / "new")
    assert not initial.fresh and set(initial.variables) == set(weights_lib.flatten(original.variables))


def test_weights_survive_flattening(trained):
    variables = jax.device_get(run.load_run(trained[0]).variables)
    again = weights_lib.unflatten(weights_lib.flatten(variables))
    assert jax.tree.structure(again) == jax.tree.structure(variables)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(variables), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_card_names_data_pixels_and_scores(trained):
    workdir, _ = trained
    card = export.model_card(run.load_run(workdir))
    assert "own/train: labels of 3 slices (z = 1, 4, 7), 6 slices without labels" in card
    assert "Pixel size: not known" in card
    assert "It was not scored." in card
    keys = ("jac_pooled", "dsc_pooled", "precision_pooled", "recall_pooled", "jac_per_slice_mean", "dsc_per_slice_mean")
    scores = ", ".join(f'"{key}": 0.5' for key in keys)
    scores = scores.replace('"precision_pooled": 0.5', '"precision_pooled": null')
    (workdir / "metrics.json").write_text(f'{{{scores}, "slices": 12, "part": ["own/test"]}}')
    card = export.model_card(run.load_run(workdir))
    assert "On 12 labelled slices of own/test" in card and "| jac_pooled | 0.500 |" in card
    assert "| precision_pooled | undefined |" in card


def test_an_unknown_output_is_named(trained):
    workdir, config = trained
    config = config.copy_and_resolve_references().unlock()
    config.predict.prediction_head = "tail"
    with pytest.raises(InputError, match="prediction_head is 'tail'; expected default, head, prototypes or mean"):
        export.write_export(workdir, config)
