"""An exported model runs without this package, at any size, and predicts what the run's own predictor predicts."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import tifffile

from dualrel_jax import export
from dualrel_jax.data.io.volume import intensity_range, open_volume, to_uint8
from dualrel_jax.errors import InputError
from dualrel_jax.inference import run
from dualrel_jax.inference.weights import starting_weights
from dualrel_jax.training import weights_file as weights_lib

WITHOUT = "import runpy, sys; sys.modules.update(dualrel_jax=None, flax=None, optax=None, ml_collections=None);"


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
    assert "the 0.1 and 99.9 percentiles of the volume become 0 and 255" in paths["card"].read_text()


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
    assert not {"folder", "slice_checksums"} & set(json.loads((folder / "run.json").read_text()))
    assert (exported.step, exported.pixel_nm) == (original.step, original.pixel_nm)
    for a, b in zip(jax.tree.leaves(original.variables), jax.tree.leaves(exported.variables), strict=True):
        np.testing.assert_array_equal(a, b)
        assert b.sharding == a.sharding  # on every device of the run: else each call would copy the weights
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


def test_an_unknown_output_is_named(trained):
    workdir, config = trained
    config = config.copy_and_resolve_references().unlock()
    config.predict.prediction_head = "tail"
    with pytest.raises(InputError, match="prediction_head is 'tail'; expected default, head, prototypes or mean"):
        export.write_export(workdir, config)
