import dataclasses
import json
import re
import zlib
from types import SimpleNamespace

import numpy as np
import pytest

import dualrel_jax
from dualrel_jax.data.datasets.appearance import appearance
from dualrel_jax.data.io.pyramid import Level
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.data.phantom import phantom
from dualrel_jax.errors import InputError
from dualrel_jax.inference.choice import choose, choose_for_parts

IMAGE = np.random.default_rng(0).integers(0, 255, (6, 40, 40), np.uint8)
VOXEL_NM = (30.0, 8.0, 8.0)
TRAINED = Volume.from_array(IMAGE, VOXEL_NM, "trained.tif")
ALIKE = Volume.from_array(IMAGE[:, ::-1], VOXEL_NM, "next_block.tif")
UNSIZED = Volume.from_array(IMAGE[:, ::-1], None, "no_size.tif")
LEVEL = Level(1, 1, IMAGE.shape, (6, 80, 80), (1.0, 2.0, 2.0), (0.0, 0.5, 0.5), VOXEL_NM, (0.0, 0.0, 0.0))
PYRAMID = dataclasses.replace(ALIKE, path="finer.zarr:1", level=LEVEL)  # of level 0 the voxels are 30 x 4 x 4 nm
FOREIGN = Volume.from_array(IMAGE, (50.0, 4.0, 4.0), "another.tif")


class FakePredictor:
    def __init__(self, head):
        self.head = head

    def each(self, variables, images):
        return (image / 255 for image in images)


@pytest.fixture
def run(tmp_path):
    """A function (fields of config.predict) -> a run with prototypes, trained on TRAINED."""

    def make(**predict):
        seen = dataclasses.asdict(appearance(TRAINED, (8.0, 8.0)))
        (tmp_path / "run.json").write_text(json.dumps({"labelled_volumes": [seen]}))
        config = dualrel_jax.get_config("dualrel:own,all")
        config.predict.update(predict)
        return SimpleNamespace(
            workdir=tmp_path,
            config=config,
            method=SimpleNamespace(main_head="head", prediction_head_elsewhere="prototypes"),
            pixel_nm=(8.0, 8.0),
            predictor_of=FakePredictor,
            calibrated_threshold=lambda head, smoothing_nm: 0.62,
            appearances=lambda: [appearance(TRAINED, (8.0, 8.0))],
            variables={},
            dataset=SimpleNamespace(train=[]),  # its files are gone
        )

    return make


@pytest.mark.parametrize(
    ("volume", "head", "threshold", "why"),
    [
        (TRAINED, "default", 0.62, "its labels were learned"),
        (ALIKE, "default", 0.62, "voxel size, grey values and fine detail are like"),
        (PYRAMID, "default", 0.62, "voxel size, grey values and fine detail are like"),
        (UNSIZED, "default", 0.62, "its voxel size is unknown, its grey values"),
        (FOREIGN, "prototypes", 0.5, "its voxels are 50 x 4 x 4 nm, those of the training 30 x 8 x 8 nm"),
    ],
)
def test_the_volume_decides_on_head_and_threshold(run, volume, head, threshold, why):
    choice = choose(run(), [volume])
    assert (choice.prediction_head, choice.predictor.head, choice.threshold) == (head, head, threshold)
    assert why in choice.explanation and volume.path in choice.explanation
    assert "predict.domain" in choice.explanation and "predict.foreground_fraction" in choice.explanation


@pytest.mark.parametrize(
    ("fields", "shape", "voxel_nm", "planes"),
    [
        ({}, (64, 70, 70), (10.0, 9.0, 9.0), "xyz"),
        ({"planes": "xy"}, (64, 70, 70), (10.0, 9.0, 9.0), "xy"),
        ({"domain": "training"}, (64, 70, 70), (10.0, 9.0, 9.0), "xyz"),
        ({"domain": "training"}, (80, 80, 80), (8.0, 8.0, 8.0), "xy"),  # the mean along z is as good
        ({}, (80, 80, 80), (8.0, 8.0, 8.0), "xyz"),
        ({"domain": "training", "planes": "xyz"}, (80, 80, 80), (8.0, 8.0, 8.0), "xyz"),
        ({}, (64, 70, 70), (20.0, 9.0, 9.0), "xy"),  # slices twice as far apart as pixels
        ({}, (40, 70, 70), (10.0, 9.0, 9.0), "xy"),  # 400 nm deep
    ],
)
def test_isotropic_volumes_are_seen_along_all_axes(run, fields, shape, voxel_nm, planes):
    image = np.random.default_rng(1).integers(0, 255, shape, np.uint8)
    choice = choose(run(**fields), [Volume.from_array(image, voxel_nm, "other.tif")], all_planes=True)
    assert choice.planes == planes
    assert choice.unsure_margin == (0.25 if "domain" in fields else 0.2 if planes == "xyz" else 0.15)
    assert f"the planes are {planes}" in choice.explanation and "predict.planes" in choice.explanation


@pytest.mark.parametrize(
    ("fields", "volume", "head", "threshold"),
    [
        ({"domain": "training"}, FOREIGN, "default", 0.62),
        ({"domain": "other"}, TRAINED, "prototypes", 0.5),
        ({"prediction_head": "mean"}, FOREIGN, "mean", 0.5),
        ({"prediction_head": "mean"}, ALIKE, "mean", 0.62),
        ({"threshold": 0.4}, FOREIGN, "prototypes", 0.4),
        ({"threshold": 0.4}, TRAINED, "default", 0.4),
        ({"foreground_fraction": 0.1}, TRAINED, "default", None),
        ({"points": "points.csv"}, TRAINED, "default", None),
    ],
)
def test_flags_override_it(run, fields, volume, head, threshold):
    choice = choose(run(**fields), [volume])
    assert (choice.prediction_head, choice.threshold) == (head, threshold)


def test_an_inverted_volume_is_of_another_kind_and_named(run):
    trained, other = (phantom("phantom", split)[0] for split in ("train", "test"))
    inverted = Volume.from_array(255 - other[:], other.voxel_nm, "inverted.tif")
    made = run()
    seen = dataclasses.asdict(appearance(trained, (8.0, 8.0)))
    (made.workdir / "run.json").write_text(json.dumps({"labelled_volumes": [seen]}))
    choice = choose(made, [inverted])
    assert (choice.prediction_head, choice.threshold) == ("prototypes", 0.5)
    assert re.search(
        "^inverted.tif is segmented as a volume of another kind: it seems inverted against the volumes of the training "
        r".its thin lines, the membranes, are bright, theirs dark.; invert it .255 - value[^.]*predict again",
        choice.explanation,
    )
    assert "as a volume of the training" in choose(made, [other]).explanation

    against = dataclasses.asdict(appearance(inverted, (8.0, 8.0)))
    for known, wanted in (([seen, against], False), ([against], False), ([seen], True)):
        (made.workdir / "run.json").write_text(json.dumps({"labelled_volumes": known}))
        assert ("seems inverted" in choose(made, [inverted]).explanation) == wanted
    del seen["dark_lines"]  # as an older run wrote it
    (made.workdir / "run.json").write_text(json.dumps({"labelled_volumes": [seen]}))
    assert "seems inverted" not in choose(made, [inverted]).explanation


def test_another_volume_at_the_path_of_the_training_is_judged_by_its_looks(run):
    alike = Volume.from_array(IMAGE[:4, ::-1], VOXEL_NM, "trained.tif")
    assert "its labels were learned" in choose(run(), [alike]).explanation
    replaced = Volume.from_array((40 + IMAGE // 2)[:, ::2, ::2], None, "trained.tif")
    replaced = dataclasses.replace(replaced, voxel_nm=(50.0, 4.0, 4.0))
    choice = choose(run(), [replaced])
    assert (choice.prediction_head, choice.threshold) == ("prototypes", 0.5)
    assert "the file at this path is not that of the training, and its voxels are 50 x 4 x 4" in choice.explanation


@pytest.mark.parametrize("labels_are_there", [True, False])
def test_labelled_slices_tell_the_volume_of_the_training_from_another_at_its_path(run, labels_are_there):
    made = run()
    record = json.loads((made.workdir / "run.json").read_text())
    record["slice_checksums"] = {"own/train": {"2": [zlib.crc32(IMAGE[2, 10:].tobytes()), 0]}}
    (made.workdir / "run.json").write_text(json.dumps(record))
    for image, why in ((IMAGE, "its labels were learned"), (IMAGE[:, ::-1], "is not that of the training, and its")):
        volume = Volume.from_array(image, VOXEL_NM, "trained.tif")
        view = volume.crop(slice(0, 6), slice(10, 40), slice(0, 40))  # where the training looked
        made.dataset.train = [SimpleNamespace(image=volume, view=view)] if labels_are_there else []
        if not labels_are_there:
            why = "its labels were learned"  # it looks alike, and nothing else is known
        choice = choose(made, [volume])
        assert why in choice.explanation and choice.prediction_head == "default"


def test_one_unlike_volume_among_several_makes_all_of_another_kind(run):
    assert choose(run(), [TRAINED, FOREIGN]).prediction_head == "prototypes"


def test_a_fraction_leads_to_the_threshold_of_labelled_parts(run):
    part = SimpleNamespace(image=TRAINED, zs=range(6), image_at=lambda z: IMAGE[z])
    threshold = choose_for_parts(run(foreground_fraction=0.1), [part]).threshold
    assert np.mean(IMAGE / 255 > threshold) == pytest.approx(0.1, abs=0.01)


def test_points_are_of_one_volume_and_score_no_other(run):
    with pytest.raises(InputError, match="config.predict.points is points.csv; expected none here"):
        choose_for_parts(run(points="points.csv"), [])


def test_a_run_without_a_record_compares_with_its_files_or_with_nothing(run):
    old = run()
    (old.workdir / "run.json").write_text("{}")
    assert choose(old, [FOREIGN]).prediction_head == "prototypes"

    def gone():
        raise InputError("gone")

    old.appearances = gone
    choice = choose(old, [FOREIGN])
    assert choice.prediction_head == "default" and "not recorded" in choice.explanation
