"""What is scored as masks of predict is what predict writes: averaged along z, with slices from around the region."""

from types import SimpleNamespace

import numpy as np
import pytest

from dualrel_jax.data.datasets.labels import LabelRule
from dualrel_jax.data.datasets.registry import Part
from dualrel_jax.data.io.volume import Volume
from dualrel_jax.inference import mask_scoring
from dualrel_jax.inference.choice import Choice


class Grey:
    """Bright is mitochondrion."""

    in_flight = slices_at_once = 1

    def __call__(self, variables, images):
        return images.astype(np.float32) / 255


class Above(Grey):
    """What lies one row above is bright."""

    def __call__(self, variables, images):
        return np.roll(super().__call__(variables, images), 1, axis=1)


@pytest.mark.parametrize("smoothing_nm", [0.0, 10.0])
def test_masks_are_averaged_along_z_over_slices_around_the_region_too(smoothing_nm, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (12, 9, 14), np.uint8)
    label = (image > 140).astype(np.uint8)
    volume = Volume.from_array(image, (10.0, 5.0, 5.0), "a")
    zs = (4, 5, 7)
    rule = LabelRule("instances", -1, {z: z for z in zs})
    window = slice(2, 8), slice(5, 14)
    part = Part("a/validation", volume, Volume.from_array(label), (4, 5, 6, 7), zs, rule, None, (0, 255), window)
    seen = []

    def choose(run, volumes, smoothing, *, whole_masks, all_planes):
        seen.append((volumes[0].path, smoothing))
        return Choice("default", Grey(), 0.6, "")

    monkeypatch.setattr(mask_scoring, "choose", choose)
    predict = SimpleNamespace(z_smoothing_nm=smoothing_nm, tile=16, overlap=4)
    run = SimpleNamespace(config=SimpleNamespace(predict=predict), variables={}, pixel_nm=None)
    scores, head = mask_scoring.score_masks(run, [part])
    assert head == "default" and scores.threshold == 0.6 and seen == [("a", smoothing_nm)]
    assert [record["z"] for record in scores.records] == [4, 5, 7]
    for record in scores.records:
        weights = np.exp(-0.5 * ((np.arange(12) - record["z"]) / max(smoothing_nm / 10, 1e-3)) ** 2)
        weights[np.abs(np.arange(12) - record["z"]) > 3 * smoothing_nm / 10] = 0
        mean = np.tensordot(weights / weights.sum(), image / 255, 1)[window]
        mask, true = mean > 0.6, label[record["z"]][window] > 0
        assert record["tp"] == pytest.approx(np.count_nonzero(mask & true), abs=1)  # whole 255ths
        assert record["fp"] == pytest.approx(np.count_nonzero(mask & ~true), abs=1)
        assert sum(record[key] for key in ("tp", "fp", "fn", "tn")) == true.size
        assert record["confusion_density"] == pytest.approx(np.abs(true - mean).mean(), abs=1 / 255)


def test_planes_of_all_axes_are_averaged_where_predict_would(monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (12, 13, 14), np.uint8)
    label = (image > 140).astype(np.uint8)
    rule = LabelRule("instances", -1, {z: z for z in range(12)})
    window, zs = (slice(2, 8), slice(5, 14)), (4, 5, 6, 7)
    volume = Volume.from_array(image, (5.0, 5.0, 5.0), "a")
    part = Part("a/validation", volume, Volume.from_array(label), zs, zs, rule, None, (0, 255), window)
    asked = []

    def choose(run, volumes, smoothing, *, whole_masks, all_planes):
        asked.append(all_planes)
        return Choice("default", Above(), 0.6, "", planes="xyz" if all_planes else "xy")

    monkeypatch.setattr(mask_scoring, "choose", choose)
    predict = SimpleNamespace(z_smoothing_nm=0.0, tile=16, overlap=4)
    run = SimpleNamespace(config=SimpleNamespace(predict=predict), variables={}, pixel_nm=None)
    for all_planes in (False, True):
        scores, _ = mask_scoring.score_masks(run, [part], all_planes=all_planes)
        for record in scores.records:
            z = record["z"]
            mean = image[z, 1:7, 5:14] / 255  # in slices the row above is y - 1, in planes across z it is z - 1
            if all_planes:
                mean = (mean + image[z - 1, 2:8, 5:14] / 255) / 2
            assert record["tp"] == pytest.approx(np.count_nonzero((mean > 0.6) & (label[z][window] > 0)), abs=1)
    assert asked == [False, True]
