"""The napari plugin in Qt's offscreen mode. The canvas needs OpenGL and is not shown: layers live in a ViewerModel."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from shapes import ball

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax import main, napari_plugin
from dualrel_jax.data.datasets.partition import make_partition
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.errors import InputError
from dualrel_jax.napari_plugin import corrections, layers, steps

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ["NAPARI_CONFIG"] = ""  # the settings of the person who runs the tests stay as they are
components, npe2 = pytest.importorskip("napari.components"), pytest.importorskip("npe2")
QEvent = pytest.importorskip("qtpy.QtCore").QEvent
QApplication = pytest.importorskip("qtpy.QtWidgets").QApplication

MANIFEST = Path(napari_plugin.__file__).with_name("napari.yaml")


@pytest.fixture(scope="module")
def app():
    return QApplication.instance() or QApplication([])


@pytest.fixture
def viewer(app):
    return components.ViewerModel()


@pytest.fixture
def widget(viewer):
    from dualrel_jax.napari_plugin.widget import DualRelWidget

    return DualRelWidget(viewer)


@pytest.fixture
def started_run(tmp_path, small_config):
    """(folder, config) of a run that has all but its weights."""
    config, folder = config_lib.resolve(small_config("supervised", "2")), tmp_path / "run"
    folder.mkdir()
    config_lib.save(config, folder / "config.json")
    make_partition(load_dataset(config.data).train, config.data).save(folder / "partition.json")
    return folder, config


def wait(widget, seconds=60):
    end = time.monotonic() + seconds
    while (widget._worker or widget._process) and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)
    assert not widget._worker and not widget._process, f"still at work: {widget.message.value}"


# Layers


@pytest.mark.parametrize(
    "units, scale, voxel_nm, text",
    [
        ("nm", (30, 8, 8), (30, 8, 8), "30,8,8"),
        ("um", (0.05, 0.0046, 0.0046), (50, 4.6, 4.6), "50,4.6,4.6"),
        (("pixel", "nm", "nm"), (1, 8, 8), (np.nan, 8, 8), "?,8,8"),
        ("pixel", (3, 2, 2), None, ""),
    ],
)
def test_voxel_size_is_scale_and_unit(viewer, units, scale, voxel_nm, text):
    """A unit of pixels is no size, whatever the scale."""
    layer = viewer.add_image(np.zeros((2, 3, 5)), scale=scale, units=units)
    read_nm = layers.voxel_of_layer(layer)
    assert layers.voxel_text(read_nm) == text
    if voxel_nm is None:
        assert read_nm is None and layers.parse_voxel_text(text) is None
        return
    np.testing.assert_allclose(read_nm, voxel_nm)
    np.testing.assert_allclose(layers.parse_voxel_text(text), voxel_nm)
    again = viewer.add_image(np.zeros((2, 3, 5)), **layers.placement(read_nm))
    np.testing.assert_allclose(layers.voxel_of_layer(again), voxel_nm)


def test_manifest_names_what_exists_and_opens_volumes(viewer, tmp_path):
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    manifest.validate_imports()
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    array = np.concatenate([array, array], axis=2)
    with open_writer(tmp_path / "em.tif", array.shape, array.dtype, (30.0, 8.0, 8.0)) as writer:
        for z, slice_yx in enumerate(array):
            writer.write(z, slice_yx)
    [(data, attributes, kind)] = layers.get_reader(str(tmp_path / "em.tif"))(str(tmp_path / "em.tif"))
    layer = getattr(viewer, f"add_{kind}")(data, **attributes)
    assert layer.name == "em.tif" and (layer.data == array).all() and layers.voxel_of_layer(layer) == (30, 8, 8)


@pytest.mark.parametrize(
    "text, message", [("30,8", "Voxel size=30,8"), ("8", "Voxel size=8"), ("?,a,b", "Voxel size=")]
)
def test_unclear_voxel_sizes_are_refused(text, message):
    with pytest.raises(InputError, match=message):
        layers.parse_voxel_text(text)


# The widget


def test_errors_are_sentences_in_the_widget(viewer, widget, tmp_path):
    widget.segment.changed.emit(True)
    assert widget.message.value.startswith("No trained run is chosen")
    widget.run.value = tmp_path
    assert f"{tmp_path} holds no finished or started run" in widget.message.value
    widget.instances.changed.emit(True)
    assert widget.message.value.startswith("No image layer is chosen")
    image = viewer.add_image(np.zeros((4, 20, 24), np.uint8))
    assert widget.image.value is image
    viewer.add_labels(np.ones((4, 20, 20), np.uint8))
    widget.instances.changed.emit(True)
    assert "has 4 x 20 x 20 voxels (z y x)" in widget.message.value
    widget.masks.value = viewer.add_labels(np.ones((4, 20, 24), np.uint8))
    widget.instances.changed.emit(True)
    wait(widget)
    assert widget.message.value.startswith("Volumes and lengths need the voxel size")
    widget.retrain.changed.emit(True)
    assert widget.message.value.startswith("No slice is corrected yet")


def test_strokes_name_the_corrected_slices(viewer, widget):
    viewer.add_image(np.zeros((9, 30, 30), np.uint8), **layers.placement((30.0, 8.0, 8.0)))
    mask, other = (viewer.add_labels(np.zeros((9, 30, 30), np.uint8), **layers.placement((30, 8, 8))) for _ in "ab")
    assert widget.voxel.value == "30,8,8"
    for z in (3, 7, 3):
        mask.paint((z, 10, 10), 1)
    assert widget.masks.value is mask and widget.slices.value == "3, 7"
    other.fill((5, 2, 2), 1)
    assert widget.masks.value is other and widget.slices.value == "5"
    other.n_edit_dimensions = 3  # a ball through many slices leaves each half corrected
    other.paint((4, 20, 20), 2)
    viewer.dims.set_point(0, 30 * 8)
    widget.add_slice.changed.emit(True)
    assert widget.slices.value == "5, 8"
    widget.masks.value = mask
    assert widget.slices.value == "3, 7"
    assert corrections.parse_slices("8, 3 3", 9) == [3, 8]
    with pytest.raises(InputError, match="'9' is not a slice; expected numbers from 0 to 8"):
        corrections.parse_slices("3,9", 9)


def test_a_panel_closed_during_a_computation_is_not_called(viewer, widget, tmp_path, monkeypatch):
    """An exception in a slot would end the process."""
    advanced = []

    def slow(folder, volume):
        for i in range(100):
            time.sleep(0.02)
            advanced.append(i)
            yield i, 100

    monkeypatch.setattr(steps, "segment", slow)
    viewer.add_image(np.zeros((3, 9, 9)))
    widget.run.value = tmp_path
    widget.segment.changed.emit(True)
    worker = widget._worker
    while not advanced:
        QApplication.processEvents()
    widget.native.deleteLater()
    QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    end = time.monotonic() + 60
    while worker.is_running and time.monotonic() < end:
        QApplication.processEvents()
    QApplication.processEvents()
    assert worker.abort_requested and len(advanced) < 100


def test_instances_become_a_layer_with_measures(viewer, widget):
    voxel_nm, shape = (20.0, 10.0, 10.0), (20, 40, 80)
    big, small = (ball(shape, voxel_nm, (200, 200, x), radius) for x, radius in ((200, 120), (600, 80)))
    viewer.add_image(np.zeros(shape, np.uint8), **layers.placement(voxel_nm))
    viewer.add_labels((big | small).astype(np.uint8), **layers.placement(voxel_nm))
    widget.instances.changed.emit(True)
    wait(widget)
    labels = viewer.layers[-1]
    assert (labels.data == np.where(big, 1, np.where(small, 2, 0))).all()
    assert layers.voxel_of_layer(labels) == voxel_nm
    assert list(labels.features["index"]) == [1, 2] and "mean_probability" not in labels.features
    np.testing.assert_allclose(labels.features["volume_um3"], [big.sum() * 2e-6, small.sum() * 2e-6])


# From corrections to a training


def decoded(command):
    """{image path: {z: label 0/1/255}} that the command would train on, and its config."""
    assert command[1:3] == ["-m", "dualrel_jax.main"]
    arguments, config = main.parse(command[3:])
    config = config_lib.resolve(config)
    dataset = load_dataset(config.data)
    assert not dataset.validation
    chosen = make_partition(dataset.train, config.data).labelled
    parts = {part.name: part for part in dataset.train}
    labels = {}
    for name, z in chosen:
        labels.setdefault(parts[name].image.path, {})[z] = parts[name].native_label_at(z)
    return labels, config, arguments.workdir


def test_corrections_join_the_labels_of_the_run(started_run, tmp_path):
    run, old = started_run
    kept = [z for _, z in make_partition(load_dataset(old.data).train, old.data).labelled]
    train = open_volume(old.data.image, verbose=False)
    truth = open_volume(old.data.label, verbose=False)
    new = corrections.next_folder(run)
    assert new.name == "run_corrected_1"
    mine = {kept[0]: np.ones(train.shape[1:], np.uint8), 11: np.eye(48, dtype=np.uint8)}

    # The volume it was trained on: one volume, the corrected slices in place of the old ones.
    same = Volume.from_array(train[:], None, "layer")
    by_image, config, workdir = decoded(corrections.prepare(run, new, same, mine, keep_old=True, steps=5))
    [labels] = by_image.values()
    assert sorted(labels) == sorted({*kept, 11})
    assert (labels[kept[0]] == 1).all() and (labels[11] == np.eye(48)).all()
    assert (labels[kept[1]] == (truth[kept[1]] > 0)).all()
    assert Path(workdir) == new and config.train.steps == 5
    assert config.model == old.model and config.train.crop_px == old.train.crop_px and config.method == old.method

    # Another volume: both, or only the new one.
    another = Volume.from_array(train[:][::-1], None, "layer")
    by_image, _, _ = decoded(corrections.prepare(run, tmp_path / "b", another, mine, keep_old=True, steps=5))
    assert [sorted(labels) for labels in by_image.values()] == [sorted(kept), sorted(mine)]
    by_image, _, _ = decoded(corrections.prepare(run, tmp_path / "c", another, mine, keep_old=False, steps=5))
    assert [sorted(labels) for labels in by_image.values()] == [sorted(mine)]
    [path] = by_image
    assert (open_volume(path, verbose=False)[:] == another[:]).all()

    known = Volume.from_array(train[:][::-1], (30.0, 8.0, 8.0), "layer")
    with pytest.raises(InputError, match="voxel size of .*train_image.tif is not known, that of layer is"):
        corrections.prepare(run, tmp_path / "d", known, mine, keep_old=True, steps=5)
    _, config, _ = decoded(corrections.prepare(run, tmp_path / "e", known, mine, keep_old=False, steps=5))
    assert config.data.voxel_nm == "30,8,8"


@pytest.mark.slow
def test_napari_docks_the_widget(app):
    napari, plugins = pytest.importorskip("napari"), npe2.PluginManager.instance()
    viewer = napari.Viewer(show=False)
    if "dualrel-jax" not in {manifest.name for manifest in plugins.iter_manifests()}:
        plugins.register(npe2.PluginManifest.from_file(MANIFEST))
    _, widget = viewer.window.add_plugin_dock_widget("dualrel-jax", "DualRel")
    widget.segment.changed.emit(True)
    assert widget.message.value.startswith("No trained run is chosen")
    viewer.close()


@pytest.mark.slow
def test_segment_correct_retrain_segment(viewer, widget, tmp_path, small_config):
    config = small_config("supervised", "2")
    dualrel_jax.train_and_evaluate(config, tmp_path / "run")
    image = viewer.add_image(open_volume(config.data.test_image)[:])
    widget.run.value = tmp_path / "run"
    widget.segment.changed.emit(True)
    assert not widget.segment.enabled and widget.cancel.enabled
    wait(widget, 300)
    probability, mask = viewer.layers[-2:]
    assert probability.data.shape == mask.data.shape == image.data.shape
    np.testing.assert_array_equal(mask.data, probability.data > 127.5)
    mask.paint((2, 20, 20), 1)
    assert widget.steps.value == config.train.steps
    widget.retrain.changed.emit(True)
    wait(widget, 600)
    assert Path(widget.run.value) == tmp_path / "run_corrected_1", widget.log.value
    assert "step 6/6" in widget.log.value
    widget.segment.changed.emit(True)
    wait(widget, 300)
    assert len(viewer.layers) == 5, widget.message.value
    widget.segment.changed.emit(True)
    widget.cancel.changed.emit(True)
    wait(widget, 300)
    assert len(viewer.layers) == 5 and widget.message.value == "Stopped."
