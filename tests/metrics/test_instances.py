import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dualrel_jax.errors import InputError
from dualrel_jax.metrics.instances import average_precision, compare, overlaps

VOLUMES = arrays(np.uint16, (2, 3, 6), elements=st.integers(0, 4))


def score(truth, predicted, confidence=None):
    ids = np.unique(predicted[predicted > 0])
    return compare(overlaps(truth, predicted), np.ones(len(ids)) if confidence is None else confidence)


def slow_score(truth, predicted, confidence):
    """Every definition again, on masks, one instance at a time."""
    true = [truth == i for i in sorted(set(truth.ravel().tolist()) - {0})]
    found = [predicted == i for i in sorted(set(predicted.ravel().tolist()) - {0})]
    iou = {(i, j): (a & b).sum() / (a | b).sum() for i, a in enumerate(true) for j, b in enumerate(found)}
    scores = {"true_instances": len(true), "predicted_instances": len(found)}
    for threshold in (0.5, 0.75):
        hits = [any(iou[i, j] > threshold for i in range(len(true))) for j in range(len(found))]
        # Of n true instances: the best precision of any limit of confidence that recalls at least k of them.
        best = []
        for k in range(1, len(true) + 1):
            chosen = [[hit for hit, c in zip(hits, confidence, strict=True) if c >= limit] for limit in confidence]
            best.append(max((sum(c) / len(c) for c in chosen if sum(c) >= k), default=0))
        scores[f"iou_{threshold:g}"] = {
            "average_precision": np.mean(best) if best else None,
            "true_positives": sum(hits),
            "false_positives": len(found) - sum(hits),
            "false_negatives": len(true) - sum(hits),
        }
    matched = [value for value in iou.values() if value > 0.5]
    missed = len(true) + len(found) - 2 * len(matched)
    defined = len(true) + len(found) > 0
    scores["panoptic_quality"] = sum(matched) / (len(matched) + missed / 2) if defined else None
    scores["segmentation_quality"] = np.mean(matched) if matched else None
    scores["recognition_quality"] = len(matched) / (len(matched) + missed / 2) if defined else None
    scores["splits"] = sum(max(0, sum(b[a].sum() > b.sum() / 2 for b in found) - 1) for a in true)
    scores["merges"] = sum(max(0, sum(a[b].sum() > a.sum() / 2 for a in true) - 1) for b in found)
    return scores


def flat(scores):
    for key, value in scores.items():
        yield from flat(value) if isinstance(value, dict) else [(key, value)]


def assert_same(left, right):
    left, right = list(flat(left)), list(flat(right))
    assert [key for key, _ in left] == [key for key, _ in right]
    for (key, a), (_, b) in zip(left, right, strict=True):
        assert a == b if a is None or b is None else a == pytest.approx(b), key


@settings(max_examples=150, deadline=None)
@given(VOLUMES, VOLUMES, st.lists(st.sampled_from([0.2, 0.5, 0.9]), min_size=4, max_size=4))
def test_scores_agree_with_their_definitions(truth, predicted, confidence):
    confidence = np.array(confidence[: len(set(predicted.ravel().tolist()) - {0})])
    assert_same(score(truth, predicted, confidence), slow_score(truth, predicted, confidence))


@settings(max_examples=60, deadline=None)
@given(VOLUMES, VOLUMES, st.permutations(range(1, 5)), st.permutations(range(1, 5)))
def test_numbers_of_instances_mean_nothing(truth, predicted, new_truth, new_predicted):
    other = np.array([0, *new_truth])[truth] * 10**6, np.array([0, *new_predicted])[predicted]
    assert_same(score(truth, predicted), score(*other))


@settings(max_examples=60, deadline=None)
@given(VOLUMES)
def test_a_perfect_prediction(truth):
    scores = score(truth, truth)
    wanted = 1.0 if truth.any() else None
    assert scores["panoptic_quality"] == scores["iou_0.5"]["average_precision"] == wanted
    assert scores["splits"] == scores["merges"] == 0


@settings(max_examples=60, deadline=None)
@given(VOLUMES, VOLUMES)
def test_exchanging_truth_and_prediction_exchanges_splits_and_merges(truth, predicted):
    there, back = score(truth, predicted), score(predicted, truth)
    assert (there["splits"], there["merges"]) == (back["merges"], back["splits"])
    assert there["panoptic_quality"] == pytest.approx(back["panoptic_quality"])


def test_halves_and_joined_neighbours_are_counted():
    truth = np.array([[[1, 1, 1, 1, 0, 2, 2, 2, 0, 3, 3, 3]]])
    assert score(truth, np.array([[[1, 1, 2, 2, 0, 3, 3, 3, 0, 4, 4, 4]]]))["splits"] == 1
    joined = score(truth, np.array([[[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]]]))
    assert (joined["splits"], joined["merges"], joined["panoptic_quality"]) == (0, 2, 0)


def test_confidence_orders_the_instances():
    hits = np.array([True, False])
    assert average_precision(hits, np.array([0.9, 0.1]), truths=1) == 1
    assert average_precision(hits, np.array([0.1, 0.9]), truths=1) == 0.5
    assert average_precision(hits, np.array([0.5, 0.5]), truths=1) == 0.5
    assert math.isnan(average_precision(hits[:0], np.zeros(0), truths=0))


def test_half_an_overlap_is_no_match():
    scores = score(np.array([[[1, 1, 0]]]), np.array([[[1, 0, 0]]]))
    assert scores["iou_0.5"] | {"average_precision": 0} == {
        "average_precision": 0,
        "true_positives": 0,
        "false_positives": 1,
        "false_negatives": 1,
    }


def test_volumes_of_different_length_are_refused():
    with pytest.raises(ValueError):
        overlaps(np.zeros((2, 3, 3), int), np.zeros((3, 3, 3), int))


@pytest.mark.parametrize("bad", [-1, 2**63])
def test_numbers_that_are_no_instances_are_refused(bad):
    """Else -1 would count as an instance, and large numbers as one."""
    whole = np.ones((1, 4, 4), np.uint64 if bad > 0 else np.int64)
    odd = whole.copy()
    odd[0, 0, 0] = bad
    for sides, name in (((odd, whole), "truth"), ((whole, odd), "prediction")):
        with pytest.raises(InputError, match=f"The {name} holds .*{bad}"):
            overlaps(*sides)
