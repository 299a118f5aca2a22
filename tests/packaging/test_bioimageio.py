"""A BioImage.IO package is valid, and its runner computes what the run's predictor computes."""

import sys
import zipfile

import numpy as np
import pytest
import yaml
from PIL import Image

from dualrel_jax import export
from dualrel_jax.config import schema
from dualrel_jax.data.io.volume import Volume, intensity_range, to_uint8
from dualrel_jax.errors import InputError
from dualrel_jax.inference import run
from dualrel_jax.packaging import bioimageio


@pytest.fixture
def package(trained, tmp_path, monkeypatch):
    """Path of the package of an untrained run, the run, and the folder that the package is unpacked into."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    workdir, config = trained
    config = config.copy_and_resolve_references().unlock()
    config.export.update({"to": "bioimageio", "license": "CC-BY-4.0", "authors": "A. Name, B. Name"})
    config.predict.prediction_head, config.predict.tile = "head", 256
    (workdir / "export").mkdir()
    monkeypatch.setattr(export, "_write_files", lambda run, folder: {})  # they are tested elsewhere
    path = export.write_export(workdir, config)["package"]
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
    return path, run.load_run(workdir, config), tmp_path / "unpacked"


def test_the_package_holds_what_predict_computes_and_bioimageio_runs_it(package):
    path, loaded, folder = package
    tile = np.load(folder / "test_input.npy")[0, 0].astype(np.uint8)
    grey = to_uint8(tile, intensity_range(Volume.from_array(tile)))
    expected = loaded.predictor(loaded.variables, grey)
    np.testing.assert_allclose(np.load(folder / "test_output.npy")[0, 0], expected, atol=1e-4)
    assert expected.std() > 1e-3
    fields = yaml.safe_load((folder / "rdf.yaml").read_text())
    assert fields["license"] == "CC-BY-4.0" and fields["authors"] == [{"name": "A. Name"}, {"name": "B. Name"}]
    assert fields["inputs"][0]["preprocessing"][0]["kwargs"]["max_percentile"] == 99.9
    width, height = Image.open(folder / "cover.png").size
    assert width == 2 * height
    assert "is a part of train_image.tif, slice 4." in (folder / "README.md").read_text()  # without its folder
    core = pytest.importorskip("bioimageio.core", exc_type=ImportError)
    summary = core.test_model(path)
    if "index_key" in str(summary):
        pytest.skip("this bioimageio.spec and this pydantic do not go together")
    assert summary.status == "passed", summary.format()
    from bioimageio.core.digest_spec import create_sample_for_model

    model = core.load_model_description(path)
    image = np.load(folder / "test_input.npy")
    sample = create_sample_for_model(model, inputs={"image": image})
    result = core.create_prediction_pipeline(model).predict_sample_without_blocking(
        sample, skip_input_padding=True, skip_output_cropping=True
    )
    probability = next(iter(result.members.values())).data.to_numpy()
    np.testing.assert_allclose(probability, np.load(folder / "test_output.npy"), atol=1e-4)


@pytest.mark.parametrize("trained", schema.method_names(), indirect=True)
def test_the_u_net_of_every_method_is_exported(trained, tmp_path):
    """The package is written only if ONNX computes what the prediction `head` of the method does."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    assert zipfile.is_zipfile(bioimageio.write_package(run.load_run(trained[0]), tmp_path / "a.zip"))


def test_a_missing_library_is_named_with_its_command(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match="pip install onnx onnxruntime"):
        bioimageio.write_package(run.load_run(trained[0]), trained[0] / "a.zip")
