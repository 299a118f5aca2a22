"""`evaluate` of a mask in a file: the scores of that file, whatever program made it, beside those of the run."""

import json

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from dualrel_jax.errors import InputError
from dualrel_jax.evaluate import evaluate
from dualrel_jax.inference.prediction_record import UNMOVED


@pytest.fixture
def score(trained, volume_files, tmp_path):
    """A function (mask, fields of config.data) -> what `evaluate` returns of that mask of the test volume."""
    workdir, config = trained

    def score(mask, **fields):
        path = tmp_path / "theirs" / "theirs.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, mask)
        files = {"test_image": str(volume_files["test_image"]), "test_label": str(volume_files["test_label"])}
        with config.unlocked():
            config.data.update(files | {"test_mask": str(path), **fields})
        return evaluate(workdir, config)

    return score


@pytest.fixture
def truth(volume_files):
    return tifffile.imread(volume_files["test_label"]) > 0


def test_the_scores_are_those_of_the_file(score, truth, trained, capsys):
    other = np.roll(truth, 3, axis=2)
    jac = (other & truth).sum() / (other | truth).sum()
    before = {path.name: path.read_bytes() for path in trained[0].glob("*") if path.is_file()}
    assert score(other.astype(np.uint8) * 255)["jac_pooled"] == pytest.approx(jac)
    assert "theirs.tif, compared with the labels of 12 slices" in capsys.readouterr().out
    folder = trained[0] / "scores_of_masks" / "theirs"
    assert json.loads((folder / "metrics.json").read_text())["jac_pooled"] == pytest.approx(jac)
    assert len((folder / "slices.csv").read_text().splitlines()) == 1 + 12
    assert (folder / "pictures" / "masks.png").is_file()
    assert {path.name: path.read_bytes() for path in trained[0].glob("*") if path.is_file()} == before
    assert score(truth)["jac_pooled"] == 1  # bool
    assert score(truth, test_image="")["jac_pooled"] == 1


def test_numbered_mitochondria_are_compared_one_by_one(score, truth, volume_files, tmp_path, capsys):
    numbers, count = ndimage.label(truth)
    labels = tmp_path / "numbered.tif"
    tifffile.imwrite(labels, numbers.astype(np.uint16))
    fields = {"test_label": str(labels), "test_label_kind": "instances"}
    without_first = np.where(numbers == 1, 0, numbers).astype(np.uint16)
    found = score(without_first, **fields)["instances"]
    assert (found["true_instances"], found["predicted_instances"], found["splits"]) == (count, count - 1, 0)
    assert found["iou_0.5"]["false_negatives"] == 1
    assert f"At IoU 0.5 {count - 1} match, 0 predicted and 1 true ones do not." in capsys.readouterr().out
    assert "instances" not in score(truth.astype(np.uint8), **fields)  # not numbered


def test_ignored_pixels_of_test_labels_count_nowhere(score, truth, tmp_path):
    label = truth.astype(np.uint8)
    label[:, :10] = 7
    path = tmp_path / "partly.tif"
    tifffile.imwrite(path, label)
    mask = truth.copy()
    mask[:, :10] ^= True
    assert score(mask, test_label=str(path), test_ignore_value=7)["jac_pooled"] == 1


def test_slices_that_were_trained_on_are_named(score, volume_files, capsys):
    files = {f"test_{kind}": str(volume_files[f"train_{kind}"]) for kind in ("image", "label")}
    score(tifffile.imread(files["test_label"]), **files)
    assert "were trained on (3 of the 12 slices scored)" in capsys.readouterr().out


def test_edges_that_a_stopped_predict_did_not_move_are_named(score, truth, tmp_path, capsys):
    record = tmp_path / "theirs" / "theirs.json"
    record.parent.mkdir()
    for content, named in ((json.dumps({UNMOVED: "a1"}), True), ("{}", False), ("[1]", False), ("no json", False)):
        record.write_text(content)
        score(truth)
        assert ("are still to be moved (--edge-nm)" in capsys.readouterr().out) == named


def test_what_is_no_mask_of_the_volume_is_refused(score, truth):
    with pytest.raises(InputError, match=r"has 11 x 48 x 48 voxels .* has 12 x 48 x 48; expected the same"):
        score(truth[1:])
    with pytest.raises(InputError, match="change from pixel to pixel, or are no whole numbers, as in a probability"):
        score(np.random.default_rng(0).integers(0, 256, truth.shape, np.uint8))
    with pytest.raises(InputError, match="values from 1 on; expected 0 for background"):
        score(np.where(truth, 2, 1).astype(np.int16))
    for other, said in ((-1, "the negative value -1"), (np.nan, "holds NaN; expected 0"), (0.4, "no whole numbers")):
        mask = truth.astype(np.float32)
        mask[-1, 0, 0] = other  # in a single slice
        with pytest.raises(InputError, match=said):
            score(mask)


def test_advice_on_test_labels_names_their_fields(score, truth, tmp_path):
    label = truth.astype(np.uint8)
    label[:, :10] = 7
    path = tmp_path / "three values.tif"
    tifffile.imwrite(path, label)
    with pytest.raises(InputError, match=r"data\.test_label_kind=binary.*; set data\.test_ignore_value=7"):
        score(truth, test_label=str(path))
