import csv
import json
import math
import re
import shutil
import sys

import numpy as np
import pytest
import stores
import tifffile
from ml_collections import ConfigDict
from scipy import ndimage
from shapes import ball

import dualrel_jax
from dualrel_jax import config as config_lib
from dualrel_jax.data.io import ome_zarr
from dualrel_jax.data.io.volume import open_volume
from dualrel_jax.data.io.writers import open_writer
from dualrel_jax.data.phantom import phantom
from dualrel_jax.errors import InputError
from dualrel_jax.instances import box_tasks, segment
from dualrel_jax.instances.morphometry import COLUMNS
from dualrel_jax.segment_instances import segment_instances


@pytest.fixture
def config(tmp_path):
    """Two balls, 300 nm apart, as a probability volume in the work folder `tmp_path`, and their numbers as truth."""
    whole = dualrel_jax.get_config("supervised:phantom,1/32")
    config = ConfigDict({"predict": whole.predict, "instances": whole.instances})
    shape, voxel_nm = (14, 40, 60), (30.0, 10.0, 10.0)
    truth = np.zeros(shape, np.uint16)
    truth[ball(shape, voxel_nm, (210, 200, 150), 110)] = 7
    truth[ball(shape, voxel_nm, (210, 200, 450), 120)] = 3
    write(tmp_path / "prediction" / "mask_probability.tif", np.where(truth > 0, 200, 20).astype(np.uint8), voxel_nm)
    write(tmp_path / "truth.tif", truth, voxel_nm)
    return config


def write(path, volume, voxel_nm=None):
    with open_writer(path, volume.shape, volume.dtype, voxel_nm) as writer:
        for z, slice_yx in enumerate(volume):
            writer.write(z, slice_yx)
    return str(path)


@pytest.mark.parametrize("named", [True, False])
def test_the_picture_shows_the_em_of_this_probability(config, tmp_path, monkeypatch, named):
    """It lies elsewhere, and mask.json in the run is that of another volume."""
    own, other = np.random.default_rng(0).integers(0, 255, (2, 14, 40, 60), np.uint8)
    place, probability = tmp_path / "out", open_volume(tmp_path / "prediction" / "mask_probability.tif")
    for folder, em in ((place, own), (tmp_path / "prediction", other)):
        about = {"volume": write(folder / "em.tif", em), "config.predict.region": ""}
        (folder / "mask.json").write_text(json.dumps(about))
    path = write(place / "mask_probability.tif", probability[:], probability.voxel_nm)
    if named:
        config.instances.input = path
    (tmp_path / "prediction" / "last.json").write_text(json.dumps({"probability": path}))
    drawn = []
    module = sys.modules["dualrel_jax.segment_instances"]
    monkeypatch.setattr(module, "draw_instances", lambda labels, image, *_: drawn.append(image[:]))
    segment_instances(tmp_path, config)
    np.testing.assert_array_equal(drawn[0], own)


@pytest.mark.parametrize("there", [True, False])
def test_the_picture_shows_the_em_that_was_segmented(config, tmp_path, monkeypatch, there):
    em = np.random.default_rng(0).integers(0, 255, (20, 40, 60), np.uint8)
    path = write(tmp_path / "em.tif", em) if there else "moved.tif"
    about = {"volume": path, "config.predict.region": "3:17,,"}
    (tmp_path / "prediction" / "mask.json").write_text(json.dumps(about))
    drawn = []
    monkeypatch.setattr(
        sys.modules["dualrel_jax.segment_instances"], "draw_instances", lambda labels, image, *_: drawn.append(image[:])
    )
    segment_instances(tmp_path, config)
    expected = em[3:17] if there else open_volume(tmp_path / "prediction" / "mask_probability.tif")[:]
    np.testing.assert_array_equal(drawn[0], expected)


def test_without_a_config_it_is_that_of_the_run(config, tmp_path):
    whole = config_lib.resolve(dualrel_jax.get_config("supervised:phantom,1/32"))
    config_lib.save(whole, tmp_path / "config.json")
    assert segment_instances(tmp_path)["csv"] == tmp_path / "instances" / "instances.csv"


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_the_whole_mode(config, tmp_path, suffix, capsys):
    config.instances.update({"label": str(tmp_path / "truth.tif"), "label_kind": "instances"})
    config.instances.output = str(tmp_path / "out" / f"cells{suffix}")
    paths = segment_instances(tmp_path, config)
    assert [path.name for path in paths.values()] == [f"cells{suffix}", "cells.csv", "cells.json", "cells.png"]
    labels, truth = open_volume(paths["instances"]), open_volume(tmp_path / "truth.tif")
    assert labels.voxel_nm == (30, 10, 10) and labels.dtype == np.uint16
    assert (labels[:] == np.array([0, 0, 0, 1, 0, 0, 0, 2])[truth[:]]).all()
    with open(paths["csv"]) as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS and [row["id"] for row in rows] == ["1", "2"]
    assert float(rows[0]["volume_um3"]) == pytest.approx(4 / 3 * math.pi * 0.12**3, rel=0.05)
    assert float(rows[1]["mean_probability"]) == pytest.approx(200 / 255, rel=1e-4)
    scores = json.loads(paths["json"].read_text())["scores"]
    assert scores["panoptic_quality"] == scores["iou_0.75"]["average_precision"] == 1
    assert "2 instances, 0 of them cut by the border" in capsys.readouterr().out


def test_binary_truth_and_an_image_to_draw_on(config, tmp_path):
    image = np.random.default_rng(0).integers(0, 999, (14, 40, 60)).astype(np.uint16)
    config.instances.update({"label": str(tmp_path / "truth.tif"), "image": write(tmp_path / "em.tif", image)})
    paths = segment_instances(tmp_path, config)
    assert paths["instances"] == tmp_path / "instances" / "instances.tif" and paths["png"].exists()
    assert json.loads(paths["json"].read_text())["scores"]["true_instances"] == 2


def test_the_threshold_is_that_of_the_mask_unless_one_is_given(config, tmp_path):
    voxels = lambda: np.count_nonzero(tifffile.imread(segment_instances(tmp_path, config)["instances"]))  # noqa: E731
    assert voxels() > 0  # at 0.5, where nothing is noted
    about = {"volume": str(tmp_path / "gone.tif"), "config.predict.threshold": 0.9, "config.predict.region": ""}
    (tmp_path / "prediction" / "mask.json").write_text(json.dumps(about))
    assert voxels() == 0
    config.instances.threshold = 0.6
    assert voxels() > 0


@pytest.mark.parametrize("side", [0, 16])
def test_what_the_network_is_not_sure_of_is_left_out(config, tmp_path, side):
    path, truth = tmp_path / "prediction" / "mask_probability.tif", tifffile.imread(tmp_path / "truth.tif")
    probability = tifffile.imread(path)
    probability[truth == 7] = 150  # 0.59; the larger one has 0.78
    config.instances.update({"input": write(path, probability, (30.0, 10.0, 10.0)), "box_px": side})
    numbers = lambda: tifffile.imread(segment_instances(tmp_path, config)["instances"])  # noqa: E731
    config.instances.min_probability = 0.5
    assert numbers().max() == 2
    config.instances.min_probability = 0.7
    config.instances.update({"label": str(tmp_path / "truth.tif"), "label_kind": "binary"})
    np.testing.assert_array_equal(numbers() > 0, truth == 3)
    scores = json.loads((tmp_path / "instances" / "instances.json").read_text())["scores"]
    assert scores["true_instances"] == 2, "true instances have no probability"


def test_a_volume_without_mitochondria_gives_empty_tables(config, tmp_path, capsys):
    config.instances.threshold = 0.9
    paths = segment_instances(tmp_path, config)
    assert paths["csv"].read_text() == ",".join(COLUMNS) + "\n"
    assert tifffile.imread(paths["instances"]).max() == 0
    assert "no instance; lower --config.instances.threshold" in capsys.readouterr().out


def test_real_numbers_mean_the_same_as_bytes(config, tmp_path):
    by_bytes = tifffile.imread(segment_instances(tmp_path, config)["instances"])
    real = tifffile.imread(tmp_path / "prediction" / "mask_probability.tif") / np.float32(255)
    config.instances.input = write(tmp_path / "real.tif", real, (30.0, 10.0, 10.0))
    with pytest.raises(InputError, match="instances.tif, which is made from .*mask_probability.tif; name another"):
        segment_instances(tmp_path, config)
    config.instances.output = str(tmp_path / "real_instances.tif")
    assert (tifffile.imread(segment_instances(tmp_path, config)["instances"]) == by_bytes).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": "{}/truth.tif"}, "values of type uint16; expected probabilities"),
        ({"input": "{}/flat.tif"}, "has no voxel size.*predict.voxel_nm"),
        ({"input": "{}/none.tif"}, "none.tif: does not exist"),
        ({"label": "{}/truth.tif", "label_kind": "grey"}, "instances.label_kind=grey; expected one of binary, inst"),
        (
            {"label": "{}/flat.tif"},
            "instances.label=.*2 x 3 x 4 voxels.*14 x 40 x 60; .* the truth must be whole",
        ),
        ({"image": "{}/flat.tif"}, "instances.image=.*expected the same: name what was segmented"),
        ({"output": "{}/prediction/mask_probability.tif"}, "one of the inputs; choose another name"),
        ({"label": "{}/real.tif", "label_kind": "instances"}, "type float32; expected whole numbers: one per instance"),
        ({"output": "{}/out.png"}, "is of no type that can be written"),
        ({"output": "{}/a.h5:out.tif"}, "names an array inside a file"),
        (
            {"input": "{}/scaled.tif"},
            "slice 2 holds values from 0 to 230; expected .* real numbers from 0 to 1",
        ),
        (
            {"input": "{}/mask.tif"},
            "holds nothing but 0 and 1 as uint8; expected probabilities from 0 to 255",
        ),
        ({"input": "{}/light.tif"}, "light.tif states voxels of 30 x 5000 x 5000 nm.*set predict.voxel_nm"),
    ],
)
def test_bad_input_is_a_sentence(config, tmp_path, change, message):
    write(tmp_path / "flat.tif", np.zeros((2, 3, 4), np.uint8))
    write(tmp_path / "real.tif", np.zeros((14, 40, 60), np.float32))
    scaled, calibration = (
        np.zeros((4, 20, 20), np.float32),
        {"imagej": True, "metadata": {"axes": "ZYX", "unit": "nm", "spacing": 30}},
    )
    scaled[2, 5:9, 5:9] = 230
    for name, array, pixels_per_nm in (
        ("scaled", scaled, 0.1), ("mask", (scaled > 0).astype(np.uint8), 0.1), ("light", scaled / 255, 1 / 5000)
    ):  # fmt: skip
        tifffile.imwrite(tmp_path / f"{name}.tif", array, resolution=(pixels_per_nm, pixels_per_nm), **calibration)
    config.instances.update({key: value.format(tmp_path) for key, value in change.items()})
    with pytest.raises(InputError, match=message):
        segment_instances(tmp_path, config)


@pytest.mark.parametrize("kind", ["binary", "instances"])
def test_truth_of_some_slices_is_not_taken_for_whole_in_silence(config, tmp_path, kind, capsys):
    truth = tifffile.imread(tmp_path / "truth.tif")
    config.instances.update({"label": str(tmp_path / "truth.tif"), "label_kind": kind})
    segment_instances(tmp_path, config)
    assert "are empty" not in capsys.readouterr().out  # its empty slices are empty in the prediction, too
    truth[[4, 6, 7, 8, 9]] = 0
    config.instances.label = write(tmp_path / "some.tif", truth)
    segment_instances(tmp_path, config)
    said = r"look: \d+ of 14 slices looked at of .*some.tif are empty .* of their voxels are predicted"
    assert re.search(said, capsys.readouterr().out)


def test_an_image_is_not_numbered_in_silence(config, tmp_path, capsys):
    image, _ = phantom("phantom", "test")
    image, voxel_nm = image[:3, :200, :200], (30.0, 10.0, 10.0)
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=image.shape), (0, 6, 6))
    soft = (0.5 + 0.15 * smooth / smooth.std()).clip(0, 1).astype(np.float32)  # of another program: never near 0 or 1
    for name, array in (("em", image), ("framed", np.pad(image, ((0, 0), (60, 60), (60, 60))))):
        _numbers(config, write(tmp_path / f"{name}.tif", array, voxel_nm), tmp_path)
        said = capsys.readouterr().out.splitlines()  # before the boxes, and again beside the result
        assert sum(line.startswith("look:") and f"{name}.tif looks like an image" in line for line in said) == 2
    for name, array in (("soft", soft), ("bytes", (soft * 255).astype(np.uint8)), ("low", (smooth > 1) * np.uint8(90))):
        _numbers(config, write(tmp_path / f"{name}.tif", array, voxel_nm), tmp_path)
        assert "looks like" not in capsys.readouterr().out
    _numbers(config, write(tmp_path / "percent.tif", np.uint8(soft * (100 / soft.max()) + 0.5), voxel_nm), tmp_path)
    assert "percent.tif has 100 as its highest value: if that is percent" in capsys.readouterr().out


def _numbers(config, path, tmp_path):
    config.instances.update({"input": path, "output": str(tmp_path / "numbers.tif")})
    (tmp_path / "numbers.json").unlink(missing_ok=True)
    return segment_instances(tmp_path, config)


def test_no_prediction_yet(config, tmp_path):
    with pytest.raises(InputError, match="segment a volume first .dualrel predict"):
        segment_instances(tmp_path / "elsewhere", config)


def results(paths):
    return open_volume(paths["instances"])[:], paths["csv"].read_text(), paths["json"].read_text()


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
@pytest.mark.parametrize("kind", ["instances", "binary"])
def test_boxes_give_the_same_files(config, tmp_path, suffix, kind, monkeypatch, capsys):
    monkeypatch.setattr(ome_zarr, "CHUNK", (4, 16, 16))
    config.instances.update({"label": str(tmp_path / "truth.tif"), "label_kind": kind})
    config.instances.output = str(tmp_path / f"cells{suffix}")
    labels, table, record = results(segment_instances(tmp_path, config))
    config.instances.box_px = 20
    in_boxes = results(segment_instances(tmp_path, config))
    np.testing.assert_array_equal(in_boxes[0], labels)
    assert in_boxes[1] == table and in_boxes[2].replace('"box_px": 20', '"box_px": 0') == record
    assert "in 6 boxes of 14 x 20 x 20 voxels" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.part"))


def test_little_memory_means_smaller_boxes(config, tmp_path, monkeypatch):
    expected = results(segment_instances(tmp_path, config))
    monkeypatch.setattr(sys.modules["dualrel_jax.training.memory"], "available_bytes", lambda: 2**20)
    monkeypatch.setattr(box_tasks, "CHUNK", 20)
    monkeypatch.setattr(segment, "HALO_NM", 50.0)
    boxes = []
    labelled = box_tasks.label_task
    monkeypatch.setattr(box_tasks, "label_task", lambda task: (boxes.append(task.job.sides), labelled(task)))
    np.testing.assert_array_equal(results(segment_instances(tmp_path, config))[0], expected[0])
    assert len(boxes) > 1


def stopping_after(count, done):
    """Tasks of which so many are done before the process is killed."""

    def tasks(function, todo):
        for task in todo:
            if len(done) == count:
                raise KeyboardInterrupt
            done.append((function.__name__, str(task)))
            yield task, function(task)

    return tasks


@pytest.mark.parametrize("count", [1, 5, 8])
def test_the_same_call_continues_what_a_kill_left_and_another_one_is_refused(config, tmp_path, count, monkeypatch):
    monkeypatch.setattr(ome_zarr, "CHUNK", (4, 16, 16))  # 6 boxes to label, 4 to measure
    expected = results(segment_instances(tmp_path, config))
    config.instances.update({"box_px": 20, "output": str(tmp_path / "cells.zarr")})
    first, second = [], []
    with pytest.raises(KeyboardInterrupt):
        segment_instances(tmp_path, config, stopping_after(count, first))
    other = config.copy_and_resolve_references()
    other.instances.neck_ratio = 0.3
    with pytest.raises(InputError, match="belongs to unfinished instances with another neck_ratio .0.45 "):
        segment_instances(tmp_path, other)
    again = results(segment_instances(tmp_path, config, stopping_after(-1, second)))
    np.testing.assert_array_equal(again[0], expected[0])
    assert again[1] == expected[1] and not set(first[:-1]) & set(second)


def test_a_worker_that_outlives_a_command_opens_the_volume_of_the_next_anew(config, tmp_path, monkeypatch):
    """In this process, as on one worker: its caches stay; the volume is written again under its name."""
    path, read = tmp_path / "prediction" / "mask_probability.tif", []
    label = box_tasks.label_task
    monkeypatch.setattr(box_tasks, "label_task", lambda task: (read.append(box_tasks.volume_of(task.job)), label(task)))
    for probability in (tifffile.imread(path), np.zeros((14, 40, 60), np.uint8)):
        write(path, probability, (30.0, 10.0, 10.0))
        assert open_volume(segment_instances(tmp_path, config)["instances"])[:].any() == probability.any()
    assert read[0] is not read[1]


@pytest.mark.parametrize("what", ["content", "model of the prediction"])
def test_another_probability_of_that_name_does_not_continue(config, tmp_path, what):
    """The middle slice is blank in both."""
    path, record = tmp_path / "prediction" / "mask_probability.tif", tmp_path / "prediction" / "mask.json"
    config.instances.update({"box_px": 20, "output": str(tmp_path / "cells.zarr")})
    probability = tifffile.imread(path)
    probability[7] = 0
    write(path, probability, (30.0, 10.0, 10.0))
    record.write_text(json.dumps({"model": "a"}))
    with pytest.raises(KeyboardInterrupt):
        segment_instances(tmp_path, config, stopping_after(2, []))
    if what == "content":
        write(path, probability // 2, (30.0, 10.0, 10.0))
    else:
        record.write_text(json.dumps({"model": "b"}))
    with pytest.raises(InputError, match=f"unfinished instances with another {what} "):
        segment_instances(tmp_path, config)


def test_nothing_of_a_killed_command_stays_where_its_folder_was_removed(config, tmp_path, monkeypatch):
    monkeypatch.setattr(ome_zarr, "CHUNK", (4, 16, 16))
    config.instances.update({"box_px": 20, "output": str(tmp_path / "cells.zarr")})
    with pytest.raises(KeyboardInterrupt):
        segment_instances(tmp_path, config, stopping_after(9, []))
    assert open_volume(f"{tmp_path}/cells.zarr.part:0")[:].any()
    config.instances.threshold = 0.9
    with pytest.raises(InputError, match="remove that folder to start again"):
        segment_instances(tmp_path, config)
    shutil.rmtree(tmp_path / "cells.zarr.boxes.part")
    assert not open_volume(segment_instances(tmp_path, config)["instances"])[:].any()


def test_from_a_store_into_a_store(config, tmp_path, monkeypatch):
    expected = results(segment_instances(tmp_path, config))
    probability = open_volume(tmp_path / "prediction" / "mask_probability.tif")
    write(tmp_path / "mask_probability.zarr", probability[:], probability.voxel_nm)
    record = tmp_path / "prediction/s3/bucket/mask.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"config.predict.threshold": 0.6}))
    with stores.s3_server() as endpoint:
        stores.use(monkeypatch, endpoint)
        stores.upload(tmp_path / "mask_probability.zarr", "s3://bucket/mask_probability.zarr")
        config.instances.update({"input": "s3://bucket/mask_probability.zarr", "output": "s3://bucket/cells.zarr"})
        config.instances.box_px = 20
        paths = segment_instances(tmp_path, config)
        np.testing.assert_array_equal(results(paths)[0], expected[0])
    assert paths["csv"] == tmp_path / "instances/s3/bucket/cells.csv" and paths["csv"].read_text() == expected[1]
    assert json.loads(paths["json"].read_text())["settings"]["threshold"] == 0.6
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ids: ids.astype(np.uint64) + np.uint64(2**63) * (ids > 0).astype(np.uint64), "above 2\\^63"),
        (lambda ids: ids.astype(np.int16) - 5, "negative value"),
        (lambda ids: 1 + (ids > 0).astype(np.uint8), "marks every pixel"),
    ],
)
def test_truth_that_cannot_be_meant_is_refused(config, tmp_path, change, said):
    truth = change(tifffile.imread(tmp_path / "truth.tif"))
    tifffile.imwrite(tmp_path / "other.tif", truth)
    config.instances.label = str(tmp_path / "other.tif")
    config.instances.label_kind = "binary" if truth.dtype == np.uint8 else "instances"
    with pytest.raises(InputError, match=said):
        segment_instances(tmp_path, config)


def test_files_of_the_training_are_not_replaced(config, tmp_path):
    config.data = {"image": str(tmp_path / "truth.tif")}
    config.instances.output = str(tmp_path / "truth.tif")
    before = (tmp_path / "truth.tif").read_bytes()
    with pytest.raises(InputError, match="would replace the volume itself|one of the inputs"):
        segment_instances(tmp_path, config)
    assert (tmp_path / "truth.tif").read_bytes() == before


def test_a_refused_volume_does_not_block_the_next(config, tmp_path):
    good = config.instances.input
    ones = (tifffile.imread(tmp_path / "prediction" / "mask_probability.tif") > 127).astype(np.uint8)
    config.instances.input = write(tmp_path / "ones.tif", ones, (30.0, 10.0, 10.0))
    with pytest.raises(InputError, match="ones.tif"):
        segment_instances(tmp_path, config)
    config.instances.input = good
    assert segment_instances(tmp_path, config)
