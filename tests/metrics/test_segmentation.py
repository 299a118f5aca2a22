import csv
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from dualrel_jax.metrics.segmentation import Scores, above, write_metrics

SUMMARY_KEYS = {
    *("jac_pooled", "dsc_pooled", "jac_per_slice_mean", "dsc_per_slice_mean", "precision_pooled", "recall_pooled"),
    *("confusion_density", "slices", "slices_without_foreground"),
}


def volume(seed, slices=4, shape=(9, 11), labels=(0, 1, 255), foreground=0.5):
    """Random probabilities and labels, `z y x`."""
    random = np.random.default_rng(seed)
    probability = random.random((slices, *shape), np.float32)
    share = [1 - foreground, foreground, 0.2][: len(labels)]
    return probability, random.choice(labels, probability.shape, p=np.divide(share, sum(share))).astype(np.uint8)


def score(probability, label, threshold=0.5):
    scores = Scores(threshold)
    for z, (p, y) in enumerate(zip(probability, label, strict=True)):
        scores.update(z, p, y)
    return scores


def blocks(tp, fp, fn, tn):
    """One slice (probability, label) with these counts."""
    predicted = np.repeat([1.0, 1.0, 0.0, 0.0], [tp, fp, fn, tn]).astype(np.float32)
    return predicted[None], np.repeat([1, 0, 1, 0], [tp, fp, fn, tn]).astype(np.uint8)[None]


def by_scikit_learn(true, predicted):
    """The four scores; NaN where they are 0/0."""
    return {
        "jac": sk.jaccard_score(true, predicted) if true.any() or predicted.any() else math.nan,
        "dsc": sk.f1_score(true, predicted, zero_division=np.nan),
        "precision": sk.precision_score(true, predicted, zero_division=np.nan),
        "recall": sk.recall_score(true, predicted, zero_division=np.nan),
    }


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_agrees_with_scikit_learn(seed, threshold, foreground):
    probability, label = volume(seed, foreground=foreground)
    scores = score(probability, label, threshold)
    for z, record in enumerate(scores.records):
        scored = label[z] != 255
        true, predicted = label[z][scored], probability[z][scored] > threshold
        tn, fp, fn, tp = sk.confusion_matrix(true, predicted, labels=[0, 1]).ravel()
        assert [record[key] for key in ("z", "tp", "fp", "fn", "tn")] == [z, tp, fp, fn, tn]
        for key, value in by_scikit_learn(true, predicted).items():
            assert record[key] == pytest.approx(value, nan_ok=True)
    summary = scores.summary()
    scored = label != 255
    for key, value in by_scikit_learn(label[scored], probability[scored] > threshold).items():
        assert summary[f"{key}_pooled"] == pytest.approx(value, nan_ok=True)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_pooled_and_per_slice_are_different_averages(seed):
    summary = score(*volume(seed)).summary()
    assert set(summary) == SUMMARY_KEYS
    jac = summary["jac_pooled"]
    assert summary["dsc_pooled"] == pytest.approx(2 * jac / (1 + jac))
    records = score(*volume(seed)).records
    assert summary["jac_per_slice_mean"] == pytest.approx(np.mean([record["jac"] for record in records]))
    assert summary["dsc_per_slice_mean"] == pytest.approx(np.mean([record["dsc"] for record in records]))
    # 2 J / (1 + J) is concave: the mean of the slices' DSC lies below the DSC of their mean JAC (Jensen).
    mean = summary["jac_per_slice_mean"]
    assert summary["dsc_per_slice_mean"] <= 2 * mean / (1 + mean) + 1e-12


def test_a_large_slice_weighs_more_only_when_pooled():
    scores = Scores()
    scores.update(0, *blocks(tp=90, fp=5, fn=5, tn=0))
    scores.update(1, *blocks(tp=0, fp=1, fn=1, tn=98))
    assert scores.summary()["jac_per_slice_mean"] == pytest.approx(0.45)
    assert scores.summary()["jac_pooled"] == pytest.approx(90 / 102)


def test_slices_without_foreground():
    scores = Scores()
    perfect = scores.update(3, *blocks(tp=4, fp=0, fn=0, tn=4))
    empty = scores.update(4, *blocks(tp=0, fp=0, fn=0, tn=8))
    invented = scores.update(5, *blocks(tp=0, fp=1, fn=0, tn=7))
    missed = scores.update(6, *blocks(tp=0, fp=0, fn=1, tn=7))
    assert math.isnan(empty["jac"]) and math.isnan(empty["dsc"])
    assert perfect["jac"] == 1 and invented["jac"] == invented["dsc"] == missed["jac"] == missed["dsc"] == 0
    assert math.isnan(invented["recall"]) and math.isnan(missed["precision"])
    summary = scores.summary()
    assert summary["slices"] == 4 and summary["slices_without_foreground"] == 1
    assert summary["jac_per_slice_mean"] == pytest.approx(1 / 3)
    assert summary["jac_pooled"] == pytest.approx(4 / 6)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_confusion_density_is_the_mean_of_equation_1(seed):
    probability, label = volume(seed)
    total, pixels = 0.0, 0
    for p_foreground, y in zip(probability.ravel().tolist(), label.ravel().tolist(), strict=True):
        p_background = 1 - p_foreground
        if y != 255:
            total, pixels = total + (1 - p_background if y == 0 else 1 - p_foreground), pixels + 1
    density = score(probability, label).summary()["confusion_density"]
    assert density == pytest.approx(total / pixels, rel=1e-6)
    # Polarity: exchanging the classes in the prediction alone turns confusion into confidence.
    assert score(1 - probability, label).summary()["confusion_density"] == pytest.approx(1 - density, rel=1e-5)


def test_swapped_polarity_scores_zero_and_full_confusion():
    probability, label = blocks(tp=5, fp=0, fn=0, tn=7)
    right, swapped = Scores(), Scores()
    assert right.update(0, probability, label)["jac"] == 1
    assert right.summary()["confusion_density"] == 0
    record = swapped.update(0, 1 - probability, label)
    assert record["jac"] == record["precision"] == record["recall"] == record["tp"] == record["tn"] == 0
    assert swapped.summary()["confusion_density"] == 1


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6))
def test_predictions_at_ignored_pixels_change_nothing(seed):
    probability, label = volume(seed)
    other = np.where(label == 255, np.float32(1) - probability, probability)
    assert score(other, label).records == score(probability, label).records


def test_a_slice_of_ignored_pixels_is_not_scored():
    scores = score(*volume(0, slices=2, labels=(0, 1)))
    before = scores.summary()
    record = scores.update(2, np.ones((9, 11), np.float32), np.full((9, 11), 255, np.uint8))
    assert record["tp"] == record["fp"] == 0 and math.isnan(record["confusion_density"])
    assert scores.summary() == before


def test_the_threshold_itself_is_background():
    record = Scores(0.5).update(0, np.float32([[0.5, 0.75]]), np.uint8([[1, 1]]))
    assert (record["tp"], record["fn"]) == (1, 1)


@pytest.mark.parametrize("threshold", [0.25, 0.4, 0.5, 0.75])
def test_the_jac_at_another_threshold_is_that_of_scores_at_it(threshold):
    probability, label = volume(3)
    want = score(np.floor(probability * 1000) / 1000 + 1e-6, label, threshold).summary()["jac_pooled"]
    assert score(probability, label).jac_at(threshold) == pytest.approx(want)


def test_nothing_seen_yet():
    summary = Scores().summary()
    assert set(summary) == SUMMARY_KEYS and summary["slices"] == 0 and math.isnan(summary["jac_pooled"])


@pytest.mark.parametrize(
    ("probability", "label", "words"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2), np.uint8), r"slice 7.*\(2, 3\).*\(3, 2\)"),
        (np.full((2, 2), np.nan), np.zeros((2, 2), np.uint8), "slice 7.*nan"),
        (np.full((2, 2), 200.0), np.zeros((2, 2), np.uint8), "slice 7.*200"),
        (np.zeros((2, 2)), np.full((2, 2), 2, np.uint8), "slice 7.*label.*2"),
        (np.zeros((2, 2)), np.full((2, 2), -1, np.int32), "slice 7.*label.*-1"),
    ],
)
def test_wrong_input_is_named(probability, label, words):
    with pytest.raises(ValueError, match=words):
        Scores().update(7, probability, label)


def test_files(tmp_path):
    probability, label = volume(1, slices=3)
    label[1], probability[1] = 0, 0  # undefined score: null and an empty cell, never NaN
    scores = score(probability, label)
    write_metrics(tmp_path / "evaluation", scores.summary(), scores.records)
    text = (tmp_path / "evaluation" / "metrics.json").read_text()
    assert json.loads(text) == scores.summary() and "NaN" not in text
    with open(tmp_path / "evaluation" / "slices.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["z"] for row in rows] == ["0", "1", "2"]
    assert list(rows[0]) == ["z", "jac", "dsc", "precision", "recall", "confusion_density", "tp", "fp", "fn", "tn"]
    assert float(rows[2]["jac"]) == scores.records[2]["jac"] and rows[1]["jac"] == ""
    write_metrics(tmp_path, Scores().summary(), [])
    assert json.loads((tmp_path / "metrics.json").read_text())["jac_pooled"] is None


@given(threshold=st.floats(0, 1))
def test_bytes_are_above_a_threshold_as_real_numbers_are(threshold):
    values = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(above(values, threshold), values.astype(float) > threshold * 255)
