"""A score on the labels of the training says so, by the path of the volume and, of a copy, by its slices."""

import json
import shutil

import pytest
import tifffile

from dualrel_jax.data.datasets.partition import Partition, make_partition
from dualrel_jax.data.datasets.registry import load_dataset
from dualrel_jax.evaluate import evaluate
from dualrel_jax.inference.run import Run
from dualrel_jax.inference.trained_slices import trained_on


@pytest.fixture
def scored(trained, capsys):
    """A function (image, label) -> what `evaluate` prints of this test volume."""
    workdir, config = trained

    def score(image, label):
        config.data.update({"test_image": str(image), "test_label": str(label)})
        evaluate(workdir, config)
        return capsys.readouterr().out

    return score


def test_slices_of_the_training_are_named(scored, trained, volume_files, tmp_path):
    learned = [z for _, z in Partition.load(trained[0] / "partition.json").labelled]
    listed = ", ".join(map(str, learned))
    image, label = (volume_files[f"train_{kind}"] for kind in ("image", "label"))
    said = f"z = {listed} of {image} were trained on (3 of the 12 slices scored): the score says nothing about other"
    assert said in scored(image, label)
    assert said in (trained[0] / "summary.txt").read_text()
    assert json.loads((trained[0] / "metrics.json").read_text())["slices_trained_on"] == 3
    copied = shutil.copy(image, tmp_path / "another name.tif")
    assert f"z = {listed} of {copied} were trained on" in scored(copied, label)
    cut, cut_label = tmp_path / "from 4.tif", tmp_path / "from 4 label.tif"
    for path, source in ((cut, image), (cut_label, label)):
        tifffile.imwrite(path, tifffile.imread(source)[4:])
    assert f"z = {', '.join(str(z - 4) for z in learned if z >= 4)} of {cut} were trained on" in scored(cut, cut_label)


def test_a_validation_region_beside_the_training_is_not(trained, capsys):
    """In the same slices of the same volume."""
    workdir, config = trained
    config.data.update({"train_region": ",,0:24", "validation_region": ",,24:48"})
    run = Run(workdir, config, None, None, None, 0, None)
    (part,) = run.dataset.validation
    assert part.labelled_zs and trained_on(run, [part]) == []


def test_other_slices_are_not(scored, trained, volume_files):
    assert "trained on" not in scored(volume_files["test_image"], volume_files["test_label"])
    assert "trained on" not in (trained[0] / "summary.txt").read_text()


def test_slices_of_a_second_volume_are_named_without_checksums(trained, volume_files, tmp_path):
    """Exported runs, and those of earlier versions, hold none."""
    _, config = trained
    second = [
        shutil.copy(volume_files[f"train_{kind}"], tmp_path / f"second_{kind}.tif") for kind in ("image", "label")
    ]
    for key, path in zip(("image", "label"), second, strict=True):
        config.data[key] = f"{config.data[key]},{path}"
    config.data.labelled = "all"
    run = Run(tmp_path, config, None, None, None, 0, None)
    (tmp_path / "run.json").write_text("{}")
    make_partition(run.dataset.train, config.data).save(tmp_path / "partition.json")
    found = trained_on(run, run.dataset.train)
    assert [part.name for part, _ in found] == ["own/train", "own/labelled2"]
    assert [zs for _, zs in found] == [list(part.labelled_zs) for part in run.dataset.train]


def test_boxes_of_a_volume_are_of_its_slices(scored, trained, volume_files):
    learned = [z for _, z in Partition.load(trained[0] / "partition.json").labelled]
    image, label = (volume_files[f"train_{kind}"] for kind in ("image", "label"))
    box = "[2:12,8:40,0:30]"
    said = f"z = {', '.join(str(z - 2) for z in learned if z >= 2)} of {image}{box} were trained on"
    assert said in scored(f"{image}{box}", f"{label}{box}")


@pytest.mark.parametrize(
    ("trained_box", "scored_box", "zs"),
    [
        ("[3:9,,]", "", [3 + 2]),
        ("[3:9,,]", "[4:12,,]", [1]),
        ("[,0:20,]", "[,20:40,]", []),
        ("[,0:20,]", "[,9:40,]", [2]),
    ],
)
def test_boxes_are_compared_by_the_voxels_they_share(trained, volume_files, tmp_path, trained_box, scored_box, zs):
    _, config = trained
    image, label = (volume_files[f"train_{kind}"] for kind in ("image", "label"))
    config.data.update({"image": f"{image}{trained_box}", "label": f"{label}{trained_box}"})
    config.data.update({"train_region": "", "validation_region": "none"})
    Partition((("own/train", 2),), ()).save(tmp_path / "partition.json")
    (tmp_path / "run.json").write_text("{}")
    with config.unlocked():
        config.data.update({"test_image": f"{image}{scored_box}", "test_label": f"{label}{scored_box}"})
    found = trained_on(Run(tmp_path, config, None, None, None, 0, None), load_dataset(config.data).test)
    assert [found_zs for _, found_zs in found] == ([zs] if zs else [])
