"""The napari plugin in Qt's offscreen mode. The canvas needs OpenGL and is not shown: layers live in a ViewerModel."""

import dataclasses
import os
import time
import types
from pathlib import Path

import numpy as np
import pytest
from shapes import ball

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax import main, napari_plugin, starter
from dualrel_jax.data.datasets.partition import make_partition
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.data.io.volume import Volume, open_volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.errors import InputError
from dualrel_jax.napari_plugin import corrections, layers, masks, steps
from dualrel_jax.napari_plugin.preview import Patch

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
    while not widget.jobs.is_idle and time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.01)
    assert widget.jobs.is_idle, f"still at work: {widget.message.value}"


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
    assert widget.message.value.startswith("The starter needs no training")
    widget.segment.changed.emit(True)
    assert widget.message.value.startswith("No image layer is chosen")
    widget.run.line_edit.value = ""
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
    widget.learn.changed.emit(True)
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

    def slow(load):
        for i in range(100):
            time.sleep(0.02)
            advanced.append(i)
            yield steps.Progress(i, 100)

    monkeypatch.setattr(steps, "segment_all", slow)
    viewer.add_image(np.zeros((3, 9, 9)))
    widget.run.value = tmp_path
    widget.segment_all.changed.emit(True)
    worker = widget.jobs.worker
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
    widget.instance_table.selectRow(1)
    assert labels.selected_label == 2 and viewer.dims.point[0] == 200


def test_segmentation_leaves_painted_slices_and_their_undo_alone(viewer, widget):
    image = viewer.add_image(np.zeros((5, 30, 40), np.uint8))
    layer = masks.mask_for(viewer, image, None)
    whole = (slice(0, 30), slice(0, 40))
    sure = np.full((30, 40), 200, np.uint8)
    masks.write(viewer, layer, [Patch(z, whole, sure) for z in range(3)], 0.5)
    layer.paint((1, 10, 10), 0)
    layer.n_edit_dimensions = 3
    layer.brush_size = 3
    layer.paint((3, 20, 20), 1)
    painted = layer.data.copy()
    assert widget.slices.value == "1" and masks.kept_slices(layer) >= {1, 3}
    nothing = np.zeros((30, 40), np.uint8)
    masks.write(viewer, layer, [Patch(z, whole, nothing) for z in range(5)], 0.5)
    assert not layer.data[0].any()
    assert (layer.data[[1, 3]] == painted[[1, 3]]).all()
    assert not masks.probability_of(layer).any()  # what the model finds there is kept all the same
    layer.undo()
    layer.undo()
    assert (layer.data[1] == 1).all()
    masks.write(viewer, layer, [Patch(0, whole, sure)], 0.5)
    masks.apply_threshold(viewer, layer, [0, 1], 0.9)
    assert not layer.data[0].any() and (layer.data[1] == 1).all()


def test_a_mask_drawn_from_nothing_is_never_segmented_into(viewer, widget):
    image = viewer.add_image(np.zeros((3, 9, 9), np.uint8))
    drawn = viewer.add_labels(np.ones((3, 9, 9), np.uint8))
    layer = masks.mask_for(viewer, image, drawn)
    assert layer is not drawn and masks.mask_for(viewer, image, drawn) is layer


def test_a_mask_larger_than_memory_is_painted_and_undone(viewer):
    image = viewer.add_image(np.broadcast_to(np.uint8(0), (2000, 8000, 8000)))
    layer = masks.mask_for(viewer, image, None)
    patch = Patch(700, (slice(50, 90), slice(60, 100)), np.full((40, 40), 255, np.uint8))
    viewer.dims.set_point(0, 700)
    masks.write(viewer, layer, [patch], 0.5)
    assert np.asarray(layer.data[700, 40:100, 50:110]).sum() == 1600
    layer.paint((700, 70, 70), 0)
    assert np.asarray(layer.data[700, 40:100, 50:110]).sum() < 1600
    layer.undo()
    assert np.asarray(layer.data[700, 40:100, 50:110]).sum() == 1600


def test_suggestions_are_frames_and_rows_that_lead_to_their_slices(viewer, widget, monkeypatch):
    viewer.add_image(np.zeros((30, 100, 120), np.uint8), **layers.placement((30.0, 8.0, 8.0)))
    widget._show_suggestions(
        [steps.Suggestion(17, (0, 25), (30, 60), 0.2), steps.Suggestion(4, (50, 75), (0, 30), 0.1)]
    )
    frames = viewer.layers[-1]
    assert [tuple(box[0]) for box in frames.data] == [(17, 0, 30), (4, 50, 0)]
    assert list(frames.features["slice"]) == [17, 4]
    monkeypatch.setattr(steps, "load", lambda *_: (_ for _ in ()).throw(InputError("no model here")))
    widget.suggestions.selectRow(1)
    wait(widget)
    assert widget._view.z == 4 and "no model here" in widget.message.value  # it is segmented
    assert viewer.dims.point[0] == 4 * 30
    assert widget.suggestions.item(0, 1).text() == "17"


def test_pyramids_too_large_for_memory_stay_on_disk(viewer, widget, tmp_path, monkeypatch):
    full = np.random.default_rng(0).integers(0, 255, (6, 520, 560)).astype(np.uint8)
    with open_writer(tmp_path / "em.zarr", full.shape, full.dtype, (30.0, 8.0, 8.0)) as writer:
        for z, slice_yx in enumerate(full):
            writer.write(z, slice_yx)
    monkeypatch.setattr(layers, "_IN_MEMORY_BYTES", 1000)
    [(data, attributes, kind)] = layers.get_reader(str(tmp_path / "em.zarr"))(str(tmp_path / "em.zarr"))
    layer = viewer.add_image(data, **attributes)
    assert isinstance(layers.finest(layer), layers.LazyArray) and kind == "image"
    assert layer.multiscale and [level.shape for level in data] == [(6, 520, 560), (6, 260, 280), (6, 130, 140)]
    volume = widget._volume()
    assert volume.voxel_nm == (30, 8, 8) and (volume[3] == full[3]).all()
    for index in (2, (slice(None), 3), (slice(1, 5, 2), slice(None, None, 3), 7), (-1, slice(4, 9))):
        np.testing.assert_array_equal(layers.finest(layer)[index], full[index])


# From corrections to a training


def test_learning_continues_the_run_with_a_tenth_of_the_steps(started_run, tmp_path):
    run, old = started_run
    labels = {4: np.eye(48, dtype=np.uint8)}
    image = Volume.from_array(open_volume(old.data.image, verbose=False)[:], None, "layer")
    _, config, _ = decoded(corrections.prepare(run, tmp_path / "a", image, labels, keep_old=False, steps=3))
    assert config.train.init == str(run) and config.train.steps == 3
    assert corrections.default_steps(config, continues=True) == 3  # of a run that continued another itself
    config = decoded(corrections.prepare(run, tmp_path / "b", image, labels, keep_old=False, steps=3, continues=False))[
        1
    ]
    assert config.train.init == ""
    many = old.copy_and_resolve_references().unlock()
    many.train.steps = 2000
    assert [corrections.default_steps(many, continues) for continues in (True, False)] == [200, 2000]


def test_an_image_in_a_file_is_not_copied_and_a_large_one_in_part(started_run, tmp_path, monkeypatch):
    run, old = started_run
    file = open_volume(old.data.image, verbose=False)
    labels = {9: np.eye(48, dtype=np.uint8)}
    by_image, *_ = decoded(corrections.prepare(run, tmp_path / "a", file, labels, keep_old=False, steps=3))
    assert list(by_image) == [file.path] and list(by_image[file.path]) == [9]
    monkeypatch.setattr(corrections, "_MOST_BYTES", 1000)
    monkeypatch.setattr(corrections, "_AROUND", 1)
    array = Volume.from_array(file[:], None, "layer")
    by_image, *_ = decoded(corrections.prepare(run, tmp_path / "b", array, labels, keep_old=False, steps=3))
    [(path, kept)] = by_image.items()
    copy = open_volume(path, verbose=False)
    assert len(copy) == 3 and list(kept) == [1] and (copy[1] == file[9]).all()


def test_a_known_pixel_size_is_learned_with_where_z_is_unknown(started_run, tmp_path):
    run, old = started_run
    file = dataclasses.replace(open_volume(old.data.image, verbose=False), voxel_nm=(np.nan, 8.0, 8.0))
    labels = {9: np.eye(48, dtype=np.uint8)}
    _, config, _ = decoded(corrections.prepare(run, tmp_path / "a", file, labels, keep_old=False, steps=3))
    assert config.data.voxel_nm == "?,8,8"


def test_what_the_starter_learns_lies_beside_the_image(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    folder = starter.folder("starter")
    assert corrections.next_folder(folder, str(tmp_path / "data" / "em.tif")).parent == tmp_path / "data"
    assert corrections.next_folder(folder, None) == tmp_path / "starter_corrected_1"


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
    new = corrections.next_folder(run, None)
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
    assert widget.message.value.startswith("No image layer is chosen")
    viewer.add_image(np.zeros((3, 9, 9), np.uint8))
    begun = []
    widget._segmenter = types.SimpleNamespace(begin=lambda: begun.append(1))
    for _ in range(3):  # in a viewer, layers come in proxies
        widget._aim()
    assert len(begun) == 1 and len(viewer.layers) == 3
    viewer.close()


@pytest.mark.slow
def test_segment_correct_learn_segment(viewer, widget, tmp_path, small_config):
    config = small_config("supervised", "2")
    dualrel_jax.train_and_evaluate(config, tmp_path / "run")
    image = viewer.add_image(open_volume(config.data.test_image)[:])
    widget.run.value = tmp_path / "run"
    viewer.dims.set_point(0, 3)
    widget.segment.changed.emit(True)
    assert widget.cancel.enabled and widget.learn.enabled  # a preview gives way
    wait(widget, 300)
    probability, mask = viewer.layers[-2:]
    assert probability.data.shape == mask.data.shape == image.data.shape
    assert probability.data[3].any() and not probability.data[11].any()  # neighbours too, but not all
    widget.suggest.changed.emit(True)
    wait(widget, 300)
    assert viewer.layers[-1].data[0].shape == (4, 3) and widget.suggestions.rowCount() == 5
    widget.segment_all.changed.emit(True)
    assert not widget.segment.enabled
    wait(widget, 300)
    np.testing.assert_array_equal(mask.data, probability.data > 255 * widget._used_threshold())
    mask.paint((2, 20, 20), 1)
    corrected = mask.data[2].copy()
    assert widget.steps.value == max(1, config.train.steps // 10)
    widget.steps.value = 6
    widget.learn.changed.emit(True)
    wait(widget, 600)
    assert Path(widget.run.value) == tmp_path / "run_corrected_1", widget.log.value
    assert "step 6/6" in widget.log.value and "Starting from the weights of" in widget.log.value
    before = probability.data.copy()
    widget.segment_all.changed.emit(True)
    wait(widget, 300)
    assert len(viewer.layers) == 4, widget.message.value
    assert (probability.data != before).any()
    np.testing.assert_array_equal(mask.data[2], corrected)
    assert "Corrected slices stay as they are: 2." in widget.message.value
    widget.segment_all.changed.emit(True)
    widget.cancel.changed.emit(True)
    wait(widget, 300)
    assert widget.message.value == "Stopped."
